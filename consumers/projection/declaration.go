package projection

import (
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// declaration is one YAML file, read but not yet understood: every text with the place it stands at.
type declaration struct {
	file          string
	entity, topic scalar
	columns       []pair
	events        []eventDecl
	cacheKeys     []scalar
	cacheVersion  scalar
	searchText    []scalar
	searchKeyword []scalar
}

// pair is a name and what it stands for: a column's type, or the expression that sets a column.
type pair struct{ name, value scalar }

type eventDecl struct {
	name   scalar
	delete bool
	set    []pair
}

// readDeclaration walks the file strictly: what it does not know is an error with the place.
func readDeclaration(file string, text []byte) (*declaration, error) {
	r := &reader{file: file}
	root, err := r.document(text)
	if err != nil {
		return nil, err
	}
	d := &declaration{file: file}
	err = r.mapping(root, "projection", fields{
		"entity":  func(n ast.Node) (err error) { d.entity, err = r.scalar(n, "entity"); return },
		"topic":   func(n ast.Node) (err error) { d.topic, err = r.scalar(n, "topic"); return },
		"columns": func(n ast.Node) (err error) { d.columns, err = r.pairs(n, "columns"); return },
		"on":      func(n ast.Node) error { return r.events(n, d) },
		"cache": func(n ast.Node) error {
			return r.mapping(n, "cache", fields{
				"keys":    func(n ast.Node) (err error) { d.cacheKeys, err = r.list(n, "cache keys"); return },
				"version": func(n ast.Node) (err error) { d.cacheVersion, err = r.scalar(n, "cache version"); return },
			})
		},
		"search": func(n ast.Node) error {
			return r.mapping(n, "search", fields{
				"text":    func(n ast.Node) (err error) { d.searchText, err = r.list(n, "search text"); return },
				"keyword": func(n ast.Node) (err error) { d.searchKeyword, err = r.list(n, "search keyword"); return },
			})
		},
	})
	if err != nil {
		return nil, err
	}
	return d, d.validate()
}

func (r *reader) events(n ast.Node, d *declaration) error {
	entries, err := r.entries(n, "on")
	if err != nil {
		return err
	}
	for _, e := range entries {
		ev := eventDecl{name: e.key}
		where := "on " + e.key.text
		hasSet, hasDelete := false, false
		err := r.mapping(e.value, where, fields{
			"set": func(n ast.Node) (err error) { hasSet = true; ev.set, err = r.pairs(n, where+": set"); return },
			"delete": func(n ast.Node) (err error) {
				hasDelete = true
				ev.delete, err = r.truth(n, where+": delete")
				return
			},
		})
		if err != nil {
			return err
		}
		if hasSet == hasDelete {
			return e.key.fail(d.file, where, "say either set or delete")
		}
		if hasDelete && !ev.delete {
			return e.key.fail(d.file, where, "delete can only be true; leave the event out if it changes nothing")
		}
		d.events = append(d.events, ev)
	}
	return nil
}

var (
	entityName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)
	columnName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
)

func (d *declaration) validate() error {
	if d.entity.text == "" {
		return &Error{File: d.file, Reason: "entity is missing"}
	}
	if !entityName.MatchString(d.entity.text) {
		return d.entity.fail(d.file, "entity", "must begin with a lower-case letter and hold lower-case letters, digits and _ only, 48 at most: it names tables and indexes")
	}
	if d.topic.text == "" {
		return &Error{File: d.file, Reason: "topic is missing"}
	}
	if len(d.events) == 0 {
		return &Error{File: d.file, Reason: "on is missing: no event makes the state"}
	}
	if err := d.validateColumns(); err != nil {
		return err
	}
	return d.validateSearch()
}

// validateColumns holds the names to what every backend can store. Case does not tell two columns apart: SQL folds it.
func (d *declaration) validateColumns() error {
	spelled := map[string]string{}
	check := func(name scalar, where string) error {
		if !columnName.MatchString(name.text) {
			return name.fail(d.file, where, "a column's name must begin with a letter and hold letters, digits and _ only, 63 at most")
		}
		lower := strings.ToLower(name.text)
		if other, ok := spelled[lower]; ok && other != name.text {
			return name.fail(d.file, where, "column "+name.text+" differs from "+other+" only by case")
		}
		spelled[lower] = name.text
		return nil
	}
	for _, c := range d.columns {
		if err := check(c.name, "columns"); err != nil {
			return err
		}
	}
	for _, ev := range d.events {
		for _, s := range ev.set {
			if err := check(s.name, "on "+ev.name.text+": set"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *declaration) validateSearch() error {
	known := map[string]bool{}
	for _, name := range d.columnNames() {
		known[name.text] = true
	}
	for _, name := range append(append([]scalar{}, d.searchText...), d.searchKeyword...) {
		if !known[name.text] {
			return name.fail(d.file, "search", "there is no column "+name.text)
		}
	}
	return nil
}

// columnNames lists the columns in the order they are first named: under columns, then event by event.
func (d *declaration) columnNames() []scalar {
	var names []scalar
	seen := map[string]bool{}
	add := func(name scalar) {
		if !seen[name.text] {
			seen[name.text] = true
			names = append(names, name)
		}
	}
	for _, c := range d.columns {
		add(c.name)
	}
	for _, ev := range d.events {
		for _, s := range ev.set {
			add(s.name)
		}
	}
	return names
}
