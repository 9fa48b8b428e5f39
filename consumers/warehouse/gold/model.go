package gold

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Model is one table of gold: what a file of the folder declares.
type Model struct {
	// Name is the table's: the file's name without .sql.
	Name string
	// File is the path that it was read from.
	File string
	// About says for people what a row is. It may be empty.
	About string
	// Incremental is nil for a model that is built anew each time.
	Incremental *Incremental
	// Tests hold before readers see a build.
	Tests []Test
	// Inputs are what the model reads, as "silver.ENTITY", "gold.MODEL" or "bronze.events"; sorted, unique.
	Inputs []string
	// Digest changes with the file.
	Digest string

	parts []part
	// headLines are how many lines of the file stand before the SQL.
	headLines int
}

// Incremental says how a model follows its inputs row by row.
type Incremental struct {
	// Key are the model's columns by which rows are replaced. Several rows may have one key.
	Key []string
	// From maps an input (silver.ENTITY) to the expressions over its columns that give the key of the rows it goes into. An input that is
	// not named here has the model built in full when it moved.
	From map[string][]string
}

// Kind is "incremental" or "full".
func (m *Model) Kind() string {
	if m.Incremental != nil {
		return "incremental"
	}
	return "full"
}

// Upstream are the models that this one reads.
func (m *Model) Upstream() []string {
	var out []string
	for _, in := range m.Inputs {
		if name, ok := strings.CutPrefix(in, "gold."); ok {
			out = append(out, name)
		}
	}
	return out
}

// read are the inputs of the SQL itself: all but those that only tests look at.
func (m *Model) read() []string {
	var out []string
	for _, p := range m.parts {
		if p.input != "" {
			out = append(out, p.input)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// render is the model's SQL with each input replaced. It has the line numbers of the file.
func (m *Model) render(input func(name string) string) string {
	var b strings.Builder
	b.WriteString(strings.Repeat("\n", m.headLines))
	for _, p := range m.parts {
		if p.input != "" {
			b.WriteString(input(p.input))
			continue
		}
		b.WriteString(p.text)
	}
	return strings.TrimRight(b.String(), "; \t\r\n")
}

// fail is an error about the model's file.
func (m *Model) fail(line int, format string, args ...any) error {
	return &Error{File: m.File, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// names are those of tables: nothing in them needs quotes, although they get them.
var names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

func checkName(name string) error {
	if !names.MatchString(name) {
		return fmt.Errorf("%.60q cannot be the name of a model: 1 to 48 characters of a-z, 0-9 and '_', the first a letter", name)
	}
	return nil
}

// checkColumn says what is wrong with the name of a column of the model.
func checkColumn(name string) error {
	if name == "" || len(name) > 63 || strings.ContainsAny(name, "\x00\n") || strings.HasPrefix(name, ownPrefix) {
		return fmt.Errorf("%.60q cannot be the name of a column", name)
	}
	return nil
}

// ownPrefix begins the names of columns that gold itself makes.
const ownPrefix = "_millrace"

func (i *Incremental) check(read []string) error {
	if len(i.Key) == 0 {
		return fmt.Errorf("incremental: key is missing: the columns by which rows are replaced")
	}
	for at, c := range i.Key {
		if err := checkColumn(c); err != nil {
			return fmt.Errorf("incremental: key: %w", err)
		}
		if slices.Contains(i.Key[:at], c) {
			return fmt.Errorf("incremental: key: %q stands there twice", c)
		}
	}
	if len(i.From) == 0 {
		return fmt.Errorf("incremental: from is missing: {silver.ENTITY: [the columns that give the key]}")
	}
	for input, exprs := range i.From {
		switch {
		case !strings.HasPrefix(input, "silver."):
			return fmt.Errorf("incremental: from: %q is not of silver: only there it is known which rows changed", input)
		case !slices.Contains(read, input):
			return fmt.Errorf("incremental: from: the SQL does not read {{ %s }}", input)
		case len(exprs) != len(i.Key):
			return fmt.Errorf("incremental: from: %s has %d expressions, the key has %d columns", input, len(exprs), len(i.Key))
		}
		for _, e := range exprs {
			if strings.TrimSpace(e) == "" || strings.Contains(e, "{{") {
				return fmt.Errorf("incremental: from: %s: %.60q is no expression over its columns", input, e)
			}
		}
	}
	return nil
}
