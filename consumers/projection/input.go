package projection

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/schemas/avro"
)

// input is what an expression sees: one event and the state before it, or, for cache keys, a key and its state.
type input struct {
	ev    *consumers.Event // nil for cache keys
	state []any

	selected *avro.Selection // nil: the event has nothing but Fields
	values   []any
	// bound says that the event has the layout of the schema that the declaration was compiled for, so that fields are known by
	// their numbers and values are of the types that they were seen to have.
	bound bool
	// covered says that every field that the rule reads is selected.
	covered bool
	// event holds the fields for CEL, once made.
	event map[string]any

	key     string
	version int64
	time    time.Time
	typ     string
}

// inputOf looks at an event with the eyes of a rule.
func inputOf(ev *consumers.Event, r *rule, before []any) input {
	in := input{ev: ev, state: before, key: ev.Key, version: ev.Seq, time: ev.Time, typ: ev.Type}
	if in.selected, in.values = ev.Values(); in.selected != nil {
		in.bound = in.selected.Codec().Schema().Fingerprint == r.schema
		in.covered = in.bound && r.coveredBy(in.selected)
	}
	return in
}

// field reads a field of the event by its number or, if the layout is another, by its name.
func (in *input) field(number int, name string) (any, error) {
	if in.covered {
		return in.values[in.selected.Slot(number)], nil
	}
	if in.selected != nil {
		switch slot, has := in.selected.Find(name); {
		case slot >= 0:
			return in.values[slot], nil
		case !has:
			return nil, missing(name)
		}
	}
	return member(in.ev.Fields(), name)
}

// fields are what CEL reads: all that was decoded, if that is all that the rule reads.
func (in *input) fields() map[string]any {
	switch {
	case in.ev == nil || in.event != nil:
	case in.covered:
		in.event = in.selected.Map(in.values)
	default:
		in.event = in.ev.Fields()
	}
	return in.event
}

func missing(name string) error { return fmt.Errorf("the decoded event has no field %s", name) }
