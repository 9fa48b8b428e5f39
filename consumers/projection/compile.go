package projection

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// compile makes a projection of a declaration.
func compile(d *declaration, catalogue *schemas.Catalogue) (*Projection, error) {
	inf := &inference{d: d}
	for _, decl := range d.events {
		ev, err := resolveEvent(d, decl, catalogue)
		if err != nil {
			return nil, err
		}
		inf.events = append(inf.events, ev)
	}
	cols, err := inf.run()
	if err != nil {
		return nil, err
	}
	p := &Projection{
		file: d.file, entity: d.entity.text, topic: d.topic.text, columns: cols,
		rules:  map[string]*rule{},
		nulls:  make([]any, len(cols)),
		search: Search{Text: texts(d.searchText), Keyword: texts(d.searchKeyword)},
	}
	for _, ev := range inf.events {
		if p.rules[ev.decl.name.text], err = compileRule(inf, ev, cols); err != nil {
			return nil, err
		}
	}
	if err := checkSearch(d, cols); err != nil {
		return nil, err
	}
	if p.cacheVersion, err = compileCacheVersion(d, cols); err != nil {
		return nil, err
	}
	p.digest = p.digestOf()
	p.cacheKeys, err = compileCacheKeys(inf, cols)
	p.keyed = !slices.ContainsFunc(p.cacheKeys, func(e *expression) bool { return e.refs.anyState })
	return p, err
}

// resolveEvent finds an event's schema and makes sure that such events come by the projection's topic.
func resolveEvent(d *declaration, decl eventDecl, catalogue *schemas.Catalogue) (eventType, error) {
	name := decl.name.text
	where := "on " + name
	s, ok := catalogue.Lookup(name)
	if !ok {
		return eventType{}, decl.name.fail(d.file, where, "there is no schema of this name; of topic "+d.topic.text+" there are "+listNames(typesOf(catalogue, d.topic.text)))
	}
	if s.Topic != "" && s.Topic != d.topic.text {
		return eventType{}, decl.name.fail(d.file, where, fmt.Sprintf("its schema sends it to topic %s; this projection follows %s", s.Topic, d.topic.text))
	}
	codec, err := avro.New(s.Text)
	if err != nil {
		return eventType{}, decl.name.fail(d.file, where, err.Error())
	}
	return eventType{decl: decl, schema: codec.Schema().Fingerprint, fields: codec.Fields()}, nil
}

func typesOf(catalogue *schemas.Catalogue, topic string) []string {
	var names []string
	for _, s := range catalogue.All() {
		if s.Topic == topic {
			names = append(names, s.Name)
		}
	}
	return names
}

func compileRule(inf *inference, ev eventType, cols []Column) (*rule, error) {
	out := &rule{delete: ev.decl.delete, schema: ev.schema}
	c, err := newEventCompiler(inf.d.file, ev, cols)
	if err != nil {
		return nil, err
	}
	for _, s := range ev.decl.set {
		where := setPlace(ev.decl.name.text, s.name.text)
		parsed, refs, err := c.parse(s.value, where, inf.names)
		if err != nil {
			return nil, err
		}
		e, err := c.compile(s.value, where, parsed, refs)
		if err != nil {
			return nil, err
		}
		if err := inf.agree(s.name.text, e, where); err != nil {
			return nil, err
		}
		set := setter{column: indexOf(cols, s.name.text), expr: e}
		if k, ok := e.form.(constant); ok {
			if k.value, err = Coerce(cols[set.column].Type, k.value); err != nil {
				return nil, s.value.fail(inf.d.file, where, err.Error())
			}
			e.form, set.fit = k, fitsAlways
		}
		if f, ok := e.form.(eventField); ok {
			set.fit = fitOf(fieldType(ev.fields, f.path), cols[set.column].Type)
		}
		out.set = append(out.set, set)
	}
	out.readsOf(ev.fields)
	out.overwrites = out.overwritesAll(len(cols))
	return out, nil
}

func compileCacheKeys(inf *inference, cols []Column) ([]*expression, error) {
	env, err := stateEnvironment(cols)
	if err != nil {
		return nil, fmt.Errorf("%s: cache: %w", inf.d.file, err)
	}
	c := &compiler{file: inf.d.file, env: env, columns: cols}
	var out []*expression
	for _, src := range inf.d.cacheKeys {
		const where = "cache keys"
		parsed, refs, err := c.parse(src, where, inf.names)
		if err != nil {
			return nil, err
		}
		e, err := c.compile(src, where, parsed, refs)
		if err != nil {
			return nil, err
		}
		if !e.result.known || e.result.typ.Kind != Text {
			return nil, src.fail(inf.d.file, where, "a cache key must be a text, not "+e.result.String()+"; write string(x)")
		}
		out = append(out, e)
	}
	return out, nil
}

// compileCacheVersion returns the number of the column that the cache section names as the version; -1 if it names none.
func compileCacheVersion(d *declaration, cols []Column) (int, error) {
	name := d.cacheVersion
	if name.text == "" {
		return -1, nil
	}
	i := indexOf(cols, name.text)
	if i < 0 || cols[i].Type.Kind != Int {
		return -1, name.fail(d.file, "cache version", "the version of a row is a column of type int; "+name.text+" is none")
	}
	return i, nil
}

// checkSearch holds full-text fields to columns of text.
func checkSearch(d *declaration, cols []Column) error {
	for _, name := range d.searchText {
		t := cols[indexOf(cols, name.text)].Type
		if t.Kind != Text && (t.Kind != List || t.Elem.Kind != Text) {
			return name.fail(d.file, "search text", fmt.Sprintf("column %s is %s; only text is searched word by word", name.text, t))
		}
	}
	return nil
}

// digestOf is taken over what states depend on: entity, topic, columns in order with their types, and each event's rule.
func (p *Projection) digestOf() string {
	var b strings.Builder
	fmt.Fprintf(&b, "millrace projection 1\nentity %q\ntopic %q\n", p.entity, p.topic)
	for _, c := range p.columns {
		fmt.Fprintf(&b, "column %q %s\n", c.Name, c.Type)
	}
	for _, name := range sortedNames(p.rules) {
		r := p.rules[name]
		fmt.Fprintf(&b, "on %q delete %t\n", name, r.delete)
		exprs := map[string]string{}
		for _, s := range r.set {
			exprs[p.columns[s.column].Name] = s.expr.text
		}
		for _, column := range sortedNames(exprs) {
			fmt.Fprintf(&b, "set %q %q\n", column, exprs[column])
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

func indexOf(cols []Column, name string) int {
	for i, c := range cols {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func texts(list []scalar) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.text)
	}
	return out
}
