package gold

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAFileIsAModel(t *testing.T) {
	const text = `
/*
about: |
  What each customer has bought.
incremental:
  key: [customer_id]
  from: {silver.order: [customer_id]}
tests:
  - not_null: [customer_id]
  - relationship: {column: customer_id, to: silver.customer, field: _key}
*/
-- {{ silver.no }} 'no
select '{{ silver.no }}' as a, "silver.x" as b, $q$ silver.no ' {{ $q$, my_silver.c /* silver.no */
from {{ silver.order }} join {{gold.other}} on true;
`
	m, err := Parse("x/revenue.sql", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "revenue" || m.About != "What each customer has bought." || m.Kind() != "incremental" || len(m.Tests) != 2 {
		t.Errorf("%+v", m)
	}
	if want := []string{"gold.other", "silver.customer", "silver.order"}; !slices.Equal(m.Inputs, want) {
		t.Errorf("inputs %v, want %v", m.Inputs, want)
	}
	sql := m.render(func(in string) string { return "<" + in + ">" })
	lines := strings.Split(sql, "\n")
	if len(lines) != 14 || lines[13] != "from <silver.order> join <gold.other> on true" || strings.TrimSpace(strings.Join(lines[:11], "")) != "" {
		t.Errorf("%d lines: %q", len(lines), sql)
	}
}

func TestMistakesInAFile(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"no input", "m.sql", "select 1 as a", "m.sql: reads no input"},
		{"a direct name", "m.sql", "select 1\nfrom {{ silver.a }},\n  silver.customer", `m.sql:3: silver.customer is read without being an input: write {{ silver.customer }}`},
		{"a direct name in quotes", "m.sql", "select 1 from {{ silver.a }}, \"Gold\" . \"b c\"", `m.sql:1: Gold.b c is read`},
		{"a direct base table", "m.sql", "select 1 from {{ silver.a }}, silver_base.x", `write {{ silver.x }}`},
		{"no layer", "m.sql", "\nselect 1 from {{ order }}", `m.sql:2: "order" names no input`},
		{"another layer", "m.sql", "select 1 from {{ millrace.positions }}", `names no input`},
		{"an input over lines", "m.sql", "select 1 from {{ silver.a\n }}, {{ silver.b\nc }}", `names no input`},
		{"bronze", "m.sql", "select 1 from {{ bronze.order }}", `bronze has one table`},
		{"an open reference", "m.sql", "select 1 from\n{{ silver.a", `m.sql:2: {{ has no }}`},
		{"an open text", "m.sql", "select\n 'a from {{ silver.a }}", `m.sql:2: a text has no end`},
		{"an open comment", "m.sql", "/* about: x", `a comment has no end`},
		{"an open name", "m.sql", "select \"a", `a quoted name has no end`},
		{"an open dollar", "m.sql", "select $a$ $b$", `a text has no end`},
		{"a name", "My-model.sql", "select 1", `"My-model" cannot be the name of a model`},
		{"a null", "m.sql", "select '\x00'", `a null character`},
		{"an unknown key", "m.sql", "/*\nabout: x\nincrmental: {}\n*/select 1 from {{ silver.a }}", `m.sql:3: the head`},
		{"no YAML", "m.sql", "/*\nabout: [x\n*/select 1 from {{ silver.a }}", `m.sql`},
		{"deep", "m.sql", "/*\nabout: " + strings.Repeat("[", 100) + "\n*/select 1 from {{ silver.a }}", `m.sql:2: the head is nested too deeply`},
		{"two tests in one", "m.sql", "/*\ntests: [{not_null: [a], unique: [a]}]\n*/select 1 from {{ silver.a }}", `tests: number 1: want one of`},
		{"an empty range", "m.sql", "/*\ntests: [{unique: [a]}, {range: {column: a}}]\n*/select 1 from {{ silver.a }}", `tests: number 2: range: min or max is missing`},
		{"no column", "m.sql", "/*\ntests: [{unique: []}]\n*/select 1 from {{ silver.a }}", `names no column`},
		{"a relationship to nothing", "m.sql", "/*\ntests: [{relationship: {column: a, to: customer, field: x}}]\n*/select 1 from {{ silver.a }}", `"customer" names no input`},
		{"no key", "m.sql", "/*\nincremental: {from: {silver.a: [x]}}\n*/select 1 from {{ silver.a }}", `key is missing`},
		{"no from", "m.sql", "/*\nincremental: {key: [x]}\n*/select 1 from {{ silver.a }}", `from is missing`},
		{"from of gold", "m.sql", "/*\nincremental: {key: [x], from: {gold.a: [x]}}\n*/select 1 from {{ gold.a }}", `is not of silver`},
		{"from of what is not read", "m.sql", "/*\nincremental: {key: [x], from: {silver.b: [x]}}\n*/select 1 from {{ silver.a }}", `does not read {{ silver.b }}`},
		{"another number of keys", "m.sql", "/*\nincremental: {key: [x, y], from: {silver.a: [x]}}\n*/select 1 from {{ silver.a }}", `has 1 expressions, the key has 2 columns`},
		{"one of our names", "m.sql", "/*\nincremental: {key: [_millrace_k0], from: {silver.a: [x]}}\n*/select 1 from {{ silver.a }}", `cannot be the name of a column`},
	} {
		_, err := Parse(c.file, []byte(c.text))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func model(t *testing.T, name string, reads ...string) *Model {
	t.Helper()
	m, err := Parse(name+".sql", []byte("select 1 as a from\n{{ "+strings.Join(reads, " }},\n{{ ")+" }}"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheOrderOfBuilding(t *testing.T) {
	g, err := NewGraph([]*Model{
		model(t, "a", "gold.d", "gold.b"), model(t, "b", "gold.c"), model(t, "c", "silver.order"), model(t, "d", "gold.c", "bronze.events"), model(t, "e", "silver.order"),
	}, []string{"order"})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, m := range g.Models {
		order = append(order, m.Name)
	}
	for what, got := range map[string][]string{"c b d a e": order, "b d a": g.Downstream("c"), "c b d": g.Ancestors("a"), "": g.Ancestors("e"), "a": g.Downstream("b")} {
		if strings.Join(got, " ") != what {
			t.Errorf("got %v, want %s", got, what)
		}
	}
}

func TestModelsThatDoNotFitTogether(t *testing.T) {
	for _, c := range []struct {
		models []*Model
		want   string
	}{
		{[]*Model{model(t, "a", "silver.order", "gold.b"), model(t, "b", "gold.c"), model(t, "c", "gold.a"), model(t, "d", "gold.a")}, "c.sql:2: models read each other in a circle: a -> b -> c -> a"},
		{[]*Model{model(t, "a", "gold.a")}, "a.sql:2: models read each other in a circle: a -> a"},
		{[]*Model{model(t, "a", "silver.order", "silver.ordr")}, "a.sql:3: there is no silver.ordr: the sink keeps order"},
		{[]*Model{model(t, "a", "gold.b")}, "a.sql:2: there is no gold.b: the models are a"},
		{[]*Model{model(t, "a", "silver.order"), model(t, "a", "silver.order")}, "there is another model a"},
	} {
		if _, err := NewGraph(c.models, []string{"order"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestAFolderOfModels(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "holds no model") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(filepath.Join(dir, "no")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("a.sql", "select 1 as a from {{ silver.order }}")
	put("README.md", "not a model")
	if all, err := Load(dir); err != nil || len(all) != 1 || all[0].Digest == "" {
		t.Errorf("got %v, %v", all, err)
	}
	put("b.sql", "-- "+strings.Repeat("x", maxFileBytes))
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "b.sql: is larger than 48 KiB") {
		t.Errorf("got %v", err)
	}
}

// What a file holds may be anything: it is a model or an *Error, and what is rendered has the lines of the file.
func FuzzParse(f *testing.F) {
	f.Add("/*\nabout: x\n*/\nselect 1 from {{ silver.a }} -- x\n where 'a' = $$b$$ /* c */")
	f.Add("/* */ select \"a\"\"b\" from {{gold.x}}, silver . y")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse("m.sql", []byte(text))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			return
		}
		sql := m.render(func(string) string { return "x" })
		if got, most := strings.Count(sql, "\n"), strings.Count(text, "\n"); got > most {
			t.Errorf("%d lines of %d", got, most)
		}
	})
}
