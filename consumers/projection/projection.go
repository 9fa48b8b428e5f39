package projection

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/consumers"
)

// Projection is a compiled declaration. It does not change once loaded, so it is safe for concurrent use.
type Projection struct {
	file, text    string
	entity, topic string
	columns       []Column
	rules         map[string]*rule // by event type
	nulls         []any            // a state of nothing but nulls; never written to
	cacheKeys     []*expression
	keyed         bool // the cache keys come from the entity's key alone; so they do if there are none
	cacheVersion  int  // the number of the column; -1: none
	search        Search
	digest        string
}

// Search names the columns that a search backend treats specially. Without a search section both are empty, and backends index
// every column by its kind.
type Search struct {
	// Text columns are analysed for full-text search.
	Text []string
	// Keyword columns are matched as a whole.
	Keyword []string
}

// Entity names what the states are of, for example "order".
func (p *Projection) Entity() string { return p.entity }

// Topic is the one topic whose events the entity follows.
func (p *Projection) Topic() string { return p.topic }

// File is the file the declaration came from, for messages.
func (p *Projection) File() string { return p.file }

// Text is the declaration as it was written: Parse makes the same projection of it.
func (p *Projection) Text() string { return p.text }

// Columns are the columns of the state, in the order the file first names them. The slice is the caller's.
func (p *Projection) Columns() []Column { return slices.Clone(p.columns) }

// EventTypes are the event types that change the state, sorted.
func (p *Projection) EventTypes() []string { return sortedNames(p.rules) }

// SearchFields are the columns that the search section names.
func (p *Projection) SearchFields() Search { return p.search }

// Digest identifies the generation of states: SHA-256, in hexadecimal, over entity, topic, columns with their types and order, and
// every event's rule. Comments, spacing, and the cache and search sections do not count: they do not change states.
func (p *Projection) Digest() string { return p.digest }

// Fold applies one event to the state before it. An event type the declaration does not name returns prev unchanged. The error is a
// *FoldError and concerns this event alone; prev is never changed.
func (p *Projection) Fold(prev State, ev *consumers.Event) (State, error) {
	r, ok := p.rules[ev.Type]
	if !ok {
		return prev, nil
	}
	if r.delete {
		return State{}, nil
	}
	if selected, _ := ev.Values(); selected == nil && ev.Fields() == nil {
		err := ev.Err
		if err == nil {
			err = errors.New("the event is not decoded")
		}
		return prev, p.fail(ev.Type, "", err)
	}
	before := prev.Values
	if !prev.Exists || r.overwrites {
		before = p.nulls
	}
	if len(before) != len(p.columns) {
		return prev, p.fail(ev.Type, "", fmt.Errorf("the state has %d columns, the declaration %d", len(before), len(p.columns)))
	}
	in := inputOf(ev, r, before)
	after := slices.Clone(before)
	for i := range r.set {
		s := &r.set[i]
		v, err := evaluate(s.expr.form, &in)
		if err == nil {
			v, err = s.coerce(p.columns[s.column].Type, v, &in)
		}
		if err != nil {
			return prev, p.fail(ev.Type, p.columns[s.column].Name, err)
		}
		after[s.column] = v
	}
	return State{Exists: true, Values: after}, nil
}

// Overwrites says that what an event of the type makes of a state, and what it voids in caches, does not depend on the state before it: it sets every column
// from the event alone, or deletes, and cache keys come from the entity's key alone. Neither Fold nor CacheKeys needs the values of the state before it then.
func (p *Projection) Overwrites(eventType string) bool {
	r, ok := p.rules[eventType]
	return ok && r.overwrites && p.keyed && p.cacheVersion < 0
}

// CacheVersion is the version that the application's row has as well (cache: {version: COLUMN}); false without a declaration, and for a state that does
// not tell.
func (p *Projection) CacheVersion(s State) (version int64, ok bool) {
	return versionIn(s, p.cacheVersion)
}

func versionIn(s State, column int) (int64, bool) {
	if !s.Exists || column < 0 || column >= len(s.Values) {
		return 0, false
	}
	v, ok := s.Values[column].(int64)
	return v, ok && v > 0
}

// CacheKeys are the cache keys of a state, sorted, each once; nil without a cache section and for a state that does not exist. A
// key made from a column that is null is left out: no reader can have asked for it. The error is a *FoldError.
func (p *Projection) CacheKeys(key string, s State) ([]string, error) {
	if !s.Exists || len(p.cacheKeys) == 0 {
		return nil, nil
	}
	if len(s.Values) != len(p.columns) && !p.keyed {
		return nil, p.fail("", "", fmt.Errorf("the state has %d columns, the declaration %d", len(s.Values), len(p.columns)))
	}
	in := input{state: s.Values, key: key}
	out := make([]string, 0, len(p.cacheKeys))
	for _, e := range p.cacheKeys {
		v, err := evaluate(e.form, &in)
		if err != nil && p.readsNull(e, s) {
			continue
		}
		if err != nil {
			return nil, p.fail("", "cache key "+e.text, err)
		}
		if k, ok := v.(string); ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (p *Projection) readsNull(e *expression, s State) bool {
	return slices.ContainsFunc(e.refs.state, func(name string) bool {
		i := indexOf(p.columns, name)
		return i >= 0 && s.Values[i] == nil
	})
}

func (p *Projection) fail(eventType, column string, err error) error {
	return &FoldError{Entity: p.entity, EventType: eventType, Column: column, Err: err}
}
