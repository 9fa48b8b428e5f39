package gold

import (
	"fmt"
	"regexp"
	"strings"
)

// Test is what must hold of every build of a model.
type Test struct {
	// Name says which test it is, for people: "not_null(customer_id)".
	Name string
	// To is the input that a relationship points to; "" for other tests.
	To string

	columns []string
	// failing is a condition that picks the rows that fail. %[n] are as sql fills them in.
	failing func(q Names, table string) string
}

// headTest is one entry under tests: exactly one of its keys is given.
type headTest struct {
	NotNull      []string          `yaml:"not_null"`
	Unique       []string          `yaml:"unique"`
	Range        *headRange        `yaml:"range"`
	Relationship *headRelationship `yaml:"relationship"`
}

type headRange struct {
	Column string `yaml:"column"`
	Min    bound  `yaml:"min"`
	Max    bound  `yaml:"max"`
}

type headRelationship struct {
	Column string `yaml:"column"`
	To     string `yaml:"to"`
	Field  string `yaml:"field"`
}

// bound is a scalar as it was written: a float would lose digits of money.
type bound string

// UnmarshalYAML keeps the text of a scalar.
func (b *bound) UnmarshalYAML(raw []byte) error {
	*b = bound(strings.Trim(strings.TrimSpace(string(raw)), `"'`))
	return nil
}

var plainNumber = regexp.MustCompile(`^-?[0-9]{1,60}(\.[0-9]{1,60})?$`)

// sql is the bound as a literal. What is no number is a text, which the engine takes for a date or time beside such a column.
func (b bound) sql() string {
	if plainNumber.MatchString(string(b)) {
		return string(b)
	}
	return literal(string(b))
}

// literal writes a text for SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func (h headTest) test() (Test, error) {
	given := 0
	for _, is := range []bool{h.NotNull != nil, h.Unique != nil, h.Range != nil, h.Relationship != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return Test{}, fmt.Errorf("want one of not_null, unique, range, relationship")
	}
	var t Test
	var err error
	switch {
	case h.NotNull != nil:
		t = notNull(h.NotNull)
	case h.Unique != nil:
		t = unique(h.Unique)
	case h.Range != nil:
		t, err = inRange(*h.Range)
	default:
		t, err = related(*h.Relationship)
	}
	if err != nil {
		return t, err
	}
	if len(t.columns) == 0 {
		return t, fmt.Errorf("%s names no column", t.Name)
	}
	for _, c := range t.columns {
		if err := checkColumn(c); err != nil {
			return t, err
		}
	}
	return t, nil
}

func notNull(columns []string) Test {
	return Test{Name: "not_null(" + strings.Join(columns, ", ") + ")", columns: columns, failing: func(q Names, _ string) string {
		return over(q, columns, "%s IS NULL", " OR ")
	}}
}

// unique fails for every row whose values another row has as well. Nulls are like no other, as in SQL.
func unique(columns []string) Test {
	return Test{Name: "unique(" + strings.Join(columns, ", ") + ")", columns: columns, failing: func(q Names, table string) string {
		return fmt.Sprintf("EXISTS (SELECT 1 FROM (SELECT %[1]s FROM %[2]s GROUP BY %[1]s HAVING count(*) > 1) AS _millrace_two WHERE %[3]s)",
			over(q, columns, "%s", ", "), table, over(q, columns, "_millrace_two.%[1]s = _millrace_row.%[1]s", " AND "))
	}}
}

func inRange(h headRange) (Test, error) {
	if h.Min == "" && h.Max == "" {
		return Test{}, fmt.Errorf("range: min or max is missing")
	}
	var name string
	switch {
	case h.Max == "":
		name = fmt.Sprintf("range(%s >= %s)", h.Column, h.Min)
	case h.Min == "":
		name = fmt.Sprintf("range(%s <= %s)", h.Column, h.Max)
	default:
		name = fmt.Sprintf("range(%s in %s..%s)", h.Column, h.Min, h.Max)
	}
	return Test{Name: name, columns: []string{h.Column}, failing: func(q Names, _ string) string {
		var out []string
		if h.Min != "" {
			out = append(out, q.Quote(h.Column)+" < "+h.Min.sql())
		}
		if h.Max != "" {
			out = append(out, q.Quote(h.Column)+" > "+h.Max.sql())
		}
		return strings.Join(out, " OR ")
	}}, nil
}

func related(h headRelationship) (Test, error) {
	if err := checkInput(h.To); err != nil {
		return Test{}, fmt.Errorf("relationship: to: %w", err)
	}
	if err := checkColumn(h.Field); err != nil {
		return Test{}, fmt.Errorf("relationship: field: %w", err)
	}
	return Test{Name: fmt.Sprintf("relationship(%s -> %s.%s)", h.Column, h.To, h.Field), To: h.To, columns: []string{h.Column}, failing: func(q Names, _ string) string {
		return fmt.Sprintf("%[1]s IS NOT NULL AND NOT EXISTS (SELECT 1 FROM %[2]s AS _millrace_to WHERE _millrace_to.%[3]s = _millrace_row.%[1]s)",
			q.Quote(h.Column), q.Input(h.To), q.Quote(h.Field))
	}}, nil
}

// over writes a pattern for each column.
func over(q Names, columns []string, pattern, between string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = fmt.Sprintf(pattern, q.Quote(c))
	}
	return strings.Join(out, between)
}
