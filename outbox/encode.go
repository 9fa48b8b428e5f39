package outbox

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas/avro"
)

// batch is the events of one call on their way to rows.
type batch struct {
	ambient map[string]string // headers of the context
	buf     []byte            // payloads, one behind the other
	rows    []store.Row
}

// encode makes rows of events, or an *EventError for the first that cannot be one.
func (o *Outbox) encode(ctx context.Context, events []Event) (*batch, error) {
	b := &batch{ambient: o.ambient(ctx), rows: make([]store.Row, 0, len(events))}
	for i, event := range events {
		v, ok := open(event)
		if !ok {
			return nil, &EventError{Index: i, Reason: ErrMalformed, Detail: "the event is nil"}
		}
		row, err := o.row(b, &v)
		if err != nil {
			err.Index, err.Type = i, v.Type
			return nil, err
		}
		b.rows = append(b.rows, row)
	}
	return b, nil
}

func (o *Outbox) row(b *batch, v *view) (store.Row, *EventError) {
	et, ok := o.types[v.Type]
	if !ok {
		return store.Row{}, refuse(ErrUnknownType, "the catalogue has no schema %s", quote(v.Type))
	}
	row := store.Row{EventID: v.ID, Type: et.schema.Name, Fingerprint: et.schema.Fingerprint, OccurredAt: v.OccurredAt}
	var err *EventError
	if row.Topic, err = topic(v, et); err != nil {
		return row, err
	}
	if row.Payload, err = o.payload(b, v, et); err != nil {
		return row, err
	}
	if row.Key, err = o.key(v, et, row.Payload); err != nil {
		return row, err
	}
	if row.Headers, err = o.headers(b.ambient, v.Headers); err != nil {
		return row, err
	}
	if err = checkTime(v.OccurredAt); err != nil {
		return row, err
	}
	if row.EventID == ([16]byte{}) {
		row.EventID = NewID()
	}
	return row, nil
}

func (o *Outbox) payload(b *batch, v *view, et *eventType) ([]byte, *EventError) {
	start := len(b.buf)
	buf, err := et.codec.AppendEncode(b.buf, v.value)
	if err != nil {
		e := &EventError{Reason: ErrMismatch, Detail: err.Error(), Err: err}
		var field *avro.FieldError
		if errors.As(err, &field) {
			e.Field, e.Detail = field.Field, field.Reason
		}
		return nil, e
	}
	b.buf = buf
	payload := buf[start:len(buf):len(buf)]
	if len(payload) > o.limits.Payload {
		return nil, refuse(ErrTooLarge, "payload of %d bytes, at most %d", len(payload), o.limits.Payload)
	}
	return payload, nil
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func topic(v *view, et *eventType) (string, *EventError) {
	if v.Topic == "" {
		if et.schema.Topic == "" {
			return "", refuse(ErrNoTopic, "none was given, and the schema has no millrace.topic")
		}
		return et.schema.Topic, nil
	}
	if !topicName.MatchString(v.Topic) || v.Topic == "." || v.Topic == ".." || strings.HasPrefix(v.Topic, "__") {
		return "", refuse(ErrNoTopic, "%s is not the name of a topic", quote(v.Topic))
	}
	return v.Topic, nil
}

// checkTime refuses years that RFC 3339, in which consumers get the time, cannot write.
func checkTime(t time.Time) *EventError {
	if !t.IsZero() && (t.UTC().Year() < 1 || t.UTC().Year() > 9999) {
		return refuse(ErrMalformed, "the time of the event is in the year %d", t.UTC().Year())
	}
	return nil
}

func isNilPointer(e Event) bool {
	v := reflect.ValueOf(e)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
