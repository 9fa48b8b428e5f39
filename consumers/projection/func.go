package projection

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/consumers"
)

// FuncConfig is a declaration in Go.
type FuncConfig struct {
	// Entity names what the states are of, for example "order". Required.
	Entity string
	// Topic is the one topic whose events the entity follows. Required.
	Topic string
	// Columns are the state. Required.
	Columns []Column
	// Version stands for the functions in the digest, which cannot look into them: change it with every change that makes other states, for example to "2".
	// States of another version are another generation, and are built anew.
	Version string
	// On says by event type what an event does. One that is not named changes nothing. Required.
	On map[string]FoldFunc
	// Reads are the fields that On reads, by event type, so that only those are decoded. Default: all.
	Reads map[string][]string
	// CacheKeys, where set, are the cache keys of a state that exists. Like On, it sees nothing but what it is given.
	CacheKeys func(key string, row *Row) []string
	// CacheVersion, where set, names the column that holds the version of the application's row.
	CacheVersion string
}

// FoldFunc changes the state of an event's key. It is deterministic: no clock, no random, nothing from elsewhere, for the same events must make the same
// states whenever they are folded. An error, or a value that does not fit its column, is poison: the event changes nothing.
type FoldFunc func(row *Row, ev *consumers.Event) error

// Delete is the FoldFunc of an event that ends the entity.
func Delete(row *Row, _ *consumers.Event) error { row.Delete(); return nil }

// Func is a projection made of Go functions: it stands where a Projection does.
type Func struct {
	cfg     FuncConfig
	columns map[string]int
	version int // the number of the column; -1: none
	digest  string
}

// Row is the state of one key while an event is applied. Its values are to be read and replaced, not changed in place.
type Row struct {
	of     *Func
	values []any // nil if it does not exist
	err    error
}

// NewFunc checks a declaration. An error names the field that is wrong.
func NewFunc(cfg FuncConfig) (*Func, error) {
	f := &Func{cfg: cfg, columns: map[string]int{}, version: -1}
	switch {
	case cfg.Entity == "":
		return nil, errors.New("projection: Entity is missing")
	case cfg.Topic == "":
		return nil, fmt.Errorf("projection %s: Topic is missing", cfg.Entity)
	case len(cfg.Columns) == 0:
		return nil, fmt.Errorf("projection %s: Columns is empty", cfg.Entity)
	case len(cfg.On) == 0:
		return nil, fmt.Errorf("projection %s: On is empty", cfg.Entity)
	}
	if err := cfg.checkNames(); err != nil {
		return nil, err
	}
	for i, c := range cfg.Columns {
		if _, twice := f.columns[c.Name]; twice || c.Name == "" || c.Type.Kind < Bool || c.Type.Kind > JSON {
			return nil, fmt.Errorf("projection %s: Columns: %q is named twice, has no name or no type", cfg.Entity, c.Name)
		}
		f.columns[c.Name] = i
	}
	for eventType, on := range cfg.On {
		if on == nil {
			return nil, fmt.Errorf("projection %s: On %s is nil", cfg.Entity, eventType)
		}
	}
	if name := cfg.CacheVersion; name != "" {
		i, ok := f.columns[name]
		if !ok || cfg.Columns[i].Type.Kind != Int {
			return nil, fmt.Errorf("projection %s: CacheVersion: %q is no column of type int", cfg.Entity, name)
		}
		f.version = i
	}
	f.digest = f.digestOf()
	return f, nil
}

// checkNames holds the names to what every backend can store, as those of a declaration are.
func (c *FuncConfig) checkNames() error {
	if !entityName.MatchString(c.Entity) {
		return fmt.Errorf("projection: Entity %q must begin with a lower-case letter and hold lower-case letters, digits and _ only, 48 at most: it names tables and indexes", c.Entity)
	}
	spelled := map[string]string{}
	for _, col := range c.Columns {
		lower := strings.ToLower(col.Name)
		other, seen := spelled[lower]
		switch {
		case col.Name != "" && !columnName.MatchString(col.Name):
			return fmt.Errorf("projection %s: Columns: the name %q must begin with a letter and hold letters, digits and _ only, 63 at most", c.Entity, col.Name)
		case seen && other != col.Name:
			return fmt.Errorf("projection %s: Columns: %q differs from %q only by case, which SQL does not see", c.Entity, col.Name, other)
		}
		spelled[lower] = col.Name
	}
	return nil
}

func (f *Func) digestOf() string {
	h := sha256.New()
	fmt.Fprintf(h, "func\n%q %q %q\n", f.cfg.Entity, f.cfg.Topic, f.cfg.Version)
	for _, c := range f.cfg.Columns {
		fmt.Fprintf(h, "column %q %s\n", c.Name, c.Type)
	}
	for _, eventType := range slices.Sorted(maps.Keys(f.cfg.On)) {
		fmt.Fprintf(h, "on %q\n", eventType)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Entity names what the states are of.
func (f *Func) Entity() string { return f.cfg.Entity }

// Topic is the one topic whose events the entity follows.
func (f *Func) Topic() string { return f.cfg.Topic }

// Columns are the columns of the state. The slice is the caller's.
func (f *Func) Columns() []Column { return slices.Clone(f.cfg.Columns) }

// EventTypes are the event types that change the state, sorted.
func (f *Func) EventTypes() []string { return slices.Sorted(maps.Keys(f.cfg.On)) }

// Digest identifies the generation of states: SHA-256, in hexadecimal, over entity, topic, Version, columns and the event types.
func (f *Func) Digest() string { return f.digest }

// Reads is that of consumers.FieldReader.
func (f *Func) Reads(eventType string) (names []string, all bool) {
	if f.cfg.On[eventType] == nil {
		return nil, false
	}
	names, told := f.cfg.Reads[eventType]
	return names, !told
}

// Fold applies one event to the state before it. The error is a *FoldError and concerns this event alone; prev is never changed.
func (f *Func) Fold(prev State, ev *consumers.Event) (State, error) {
	on := f.cfg.On[ev.Type]
	if on == nil {
		return prev, nil
	}
	if prev.Exists && len(prev.Values) != len(f.cfg.Columns) {
		return prev, f.fail(ev.Type, "", fmt.Errorf("the state has %d columns, the declaration %d", len(prev.Values), len(f.cfg.Columns)))
	}
	row := &Row{of: f}
	if prev.Exists {
		row.values = slices.Clone(prev.Values)
	}
	if err := on(row, ev); err != nil {
		return prev, f.fail(ev.Type, "", err)
	}
	if row.err != nil {
		return prev, row.err.(*FoldError).of(ev.Type)
	}
	return State{Exists: row.values != nil, Values: row.values}, nil
}

// CacheKeys are the cache keys of a state, sorted, each once; nil for a state that does not exist.
func (f *Func) CacheKeys(key string, s State) ([]string, error) {
	if !s.Exists || f.cfg.CacheKeys == nil {
		return nil, nil
	}
	row := &Row{of: f, values: slices.Clone(s.Values)}
	keys := slices.Clone(f.cfg.CacheKeys(key, row))
	if row.err != nil {
		return nil, row.err
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// CacheVersion is that of Projection.
func (f *Func) CacheVersion(s State) (version int64, ok bool) { return versionIn(s, f.version) }

func (f *Func) fail(eventType, column string, err error) *FoldError {
	return &FoldError{Entity: f.cfg.Entity, EventType: eventType, Column: column, Err: err}
}

// of is the error with the event's type.
func (e *FoldError) of(eventType string) *FoldError {
	out := *e
	out.EventType = eventType
	return &out
}

// Exists says whether there is a state: an event made one, and none has deleted it since.
func (r *Row) Exists() bool { return r.values != nil }

// Get returns a column's value, in the Go type of its Kind; nil for null and where there is no state.
func (r *Row) Get(column string) any {
	i, ok := r.of.columns[column]
	if !ok {
		r.fail(column, errors.New("there is no such column"))
		return nil
	}
	if r.values == nil {
		return nil
	}
	return r.values[i]
}

// Set sets a column, nil to null. Where there is no state it makes one, of nulls otherwise. A value is stored exactly, or the event is poison: see Coerce.
func (r *Row) Set(column string, value any) {
	i, ok := r.of.columns[column]
	if !ok {
		r.fail(column, errors.New("there is no such column"))
		return
	}
	fits, err := Coerce(r.of.cfg.Columns[i].Type, value)
	if err != nil {
		r.fail(column, err)
		return
	}
	if r.values == nil {
		r.values = make([]any, len(r.of.cfg.Columns))
	}
	r.values[i] = fits
}

// Delete ends the state.
func (r *Row) Delete() { r.values = nil }

// fail keeps the first error: the function need not look at each.
func (r *Row) fail(column string, err error) {
	if r.err == nil {
		r.err = r.of.fail("", column, err)
	}
}
