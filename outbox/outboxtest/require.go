package outboxtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/outbox"
)

// Require fails the test at once unless the default outbox holds, as db sees it, exactly the wanted events in that
// order; without any, it must hold none. db is what Events takes.
//
// An event is wanted in the form in which it is written: a Record, an Envelope or a struct. All its fields are
// compared, after encoding, so that 1 and int64(1), or "12.50" and a *big.Rat, are alike. Key, topic, id, time and
// headers are compared only where the wanted event gives them; of headers, only those it gives.
func Require(t testing.TB, db any, want ...outbox.Event) {
	t.Helper()
	Outbox{}.Require(t, db, want...)
}

// Require is the function Require for this outbox.
func (o Outbox) Require(t testing.TB, db any, want ...outbox.Event) {
	t.Helper()
	got := o.Events(t, db)
	if diff := compare(got, want); diff != "" {
		t.Fatal(diff)
	}
}

// compare describes how the events differ; empty if they do not.
func compare(got []Event, want []outbox.Event) string {
	var b strings.Builder
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			fmt.Fprintf(&b, "\n  event %d: unexpected %s", i, describe(got[i]))
		case i >= len(got):
			fmt.Fprintf(&b, "\n  event %d: missing %s", i, want[i].EventType())
		default:
			if lines := differences(got[i], wanted(want[i])); len(lines) > 0 {
				fmt.Fprintf(&b, "\n  event %d: %s key %q:", i, got[i].Type, got[i].Key)
				for _, line := range lines {
					b.WriteString("\n    " + line)
				}
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("the outbox holds %d events, want %d:%s", len(got), len(want), b.String())
}

// expectation is a wanted event: a record that carries what is to be compared, and the value to encode.
type expectation struct {
	outbox.Record
	value any
}

func wanted(e outbox.Event) expectation {
	switch e := e.(type) {
	case outbox.Record:
		return fromRecord(e)
	case *outbox.Record:
		return fromRecord(*e)
	case outbox.Envelope:
		return fromEnvelope(e)
	case *outbox.Envelope:
		return fromEnvelope(*e)
	}
	w := expectation{Record: outbox.Record{Type: e.EventType()}, value: e}
	if k, ok := e.(outbox.Keyer); ok {
		w.Key = k.EventKey()
	}
	return w
}

func fromRecord(r outbox.Record) expectation {
	if r.Fields == nil {
		r.Fields = map[string]any{}
	}
	return expectation{Record: r, value: r.Fields}
}

func fromEnvelope(e outbox.Envelope) expectation {
	w := wanted(e.Event)
	w.Topic, w.ID, w.Headers, w.OccurredAt = e.Topic, e.ID, e.Headers, e.OccurredAt
	if e.Key != "" {
		w.Key = e.Key
	}
	return w
}
