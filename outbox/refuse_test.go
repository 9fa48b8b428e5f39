package outbox_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/outboxtest"
	"github.com/millrace/millrace/schemas/avro"
)

func record(change func(*outbox.Record)) outbox.Event {
	r := lentRecord("b-1")
	change(&r)
	return r
}

// Misspelt has a field that its schema does not have.
type Misspelt struct {
	Txt string `avro:"txt"`
}

func (Misspelt) EventType() string { return "library.Remark" }

var refused = []struct {
	name   string
	event  outbox.Event
	reason error
	field  string
	words  string
}{
	{"nil", nil, outbox.ErrMalformed, "", "nil"},
	{"nil pointer", (*Remark)(nil), outbox.ErrMalformed, "", "nil"},
	{"empty envelope", outbox.Envelope{}, outbox.ErrMalformed, "", "nil"},
	{"unknown type", outbox.Record{Type: "library.Unknown"}, outbox.ErrUnknownType, "", "library.Unknown"},
	{"no type", outbox.Record{}, outbox.ErrUnknownType, "", `""`},
	{"missing field", outbox.Record{Type: "library.BookLent", Fields: map[string]any{"book_id": "b"}}, outbox.ErrMismatch, "member_id", ""},
	{"no fields", outbox.Record{Type: "library.BookLent"}, outbox.ErrMismatch, "book_id", ""},
	{"unknown field", record(func(r *outbox.Record) { r.Fields["dew"] = 1 }), outbox.ErrMismatch, "dew", ""},
	{"wrong type", record(func(r *outbox.Record) { r.Fields["copies"] = "many" }), outbox.ErrMismatch, "copies", ""},
	{"null", record(func(r *outbox.Record) { r.Fields["member_id"] = nil }), outbox.ErrMismatch, "member_id", ""},
	{"rounded decimal", record(func(r *outbox.Record) { r.Fields["fee"] = "0.333" }), outbox.ErrMismatch, "fee", ""},
	{"invalid UTF-8 in a field", record(func(r *outbox.Record) { r.Fields["member_id"] = "\xff" }), outbox.ErrMismatch, "member_id", ""},
	{"misspelt struct", outbox.Envelope{Event: Misspelt{"x"}, Topic: "t", Key: "k"}, outbox.ErrMismatch, "txt", "Misspelt"},
	{"no topic", Remark{"x"}, outbox.ErrNoTopic, "", "millrace.topic"},
	{"illegal topic", record(func(r *outbox.Record) { r.Topic = "a b" }), outbox.ErrNoTopic, "", `"a b"`},
	{"internal topic", record(func(r *outbox.Record) { r.Topic = "__millrace.x" }), outbox.ErrNoTopic, "", ""},
	{"no key", outbox.Record{Type: "library.Remark", Topic: "t", Fields: map[string]any{"text": "x"}}, outbox.ErrNoKey, "", "millrace.key"},
	{"empty key field", lentRecord(""), outbox.ErrNoKey, "book_id", "empty"},
	{"NUL in the key", record(func(r *outbox.Record) { r.Key = "a\x00b" }), outbox.ErrMalformed, "", "NUL"},
	{"NUL in the key field", lentRecord("a\x00b"), outbox.ErrMalformed, "", "NUL"},
	{"invalid UTF-8 in the key", record(func(r *outbox.Record) { r.Key = "a\xc3(" }), outbox.ErrMalformed, "", "UTF-8"},
	{"long key", record(func(r *outbox.Record) { r.Key = strings.Repeat("k", 1025) }), outbox.ErrTooLarge, "", "1025 bytes, at most 1024"},
	{"large payload", record(func(r *outbox.Record) { r.Fields["note"] = strings.Repeat("n", 960<<10) }), outbox.ErrTooLarge, "", "payload"},
	{"reserved header", header("ce_id", "x"), outbox.ErrMalformed, "", "reserved"},
	{"our header", header("millrace-seq", "1"), outbox.ErrMalformed, "", "reserved"},
	{"upper case header", header("Traceparent", "x"), outbox.ErrMalformed, "", "lower case"},
	{"empty header name", header("", "x"), outbox.ErrMalformed, "", "lower case"},
	{"newline in a header name", header("a\nb", "x"), outbox.ErrMalformed, "", "lower case"},
	{"NUL in a header", header("a", "x\x00"), outbox.ErrMalformed, "", "NUL"},
	{"invalid UTF-8 in a header", header("a", "\xff"), outbox.ErrMalformed, "", "UTF-8"},
	{"large headers", header("a", strings.Repeat("v", 8<<10)), outbox.ErrTooLarge, "", "8193 bytes"},
	{"many headers", record(func(r *outbox.Record) {
		r.Headers = map[string]string{}
		for i := range 33 {
			r.Headers["h"+strings.Repeat("x", i)] = ""
		}
	}), outbox.ErrTooLarge, "", "33 headers"},
	{"year 10000", record(func(r *outbox.Record) { r.OccurredAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), outbox.ErrMalformed, "", "year 10000"},
	{"year 0", record(func(r *outbox.Record) { r.OccurredAt = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC) }), outbox.ErrMalformed, "", "year 0"},
}

func header(name, value string) outbox.Event {
	return record(func(r *outbox.Record) { r.Headers = map[string]string{name: value} })
}

// Promise 1: a bad event is refused before anything is sent, and the caller decides whether its transaction goes on.
func TestPromise1ARefusedEventLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	for _, c := range refused {
		err := out.Write(t.Context(), tx, lent("b-0"), c.event)
		var e *outbox.EventError
		if !errors.As(err, &e) || !outbox.Refused(err) || !errors.Is(err, c.reason) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.reason)
			continue
		}
		if e.Index != 1 || e.Field != c.field || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: index %d, field %q, want field %q: %v", c.name, e.Index, e.Field, c.field, err)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%s: a message of %d bytes", c.name, len(err.Error()))
		}
		if strings.ContainsAny(err.Error(), "\x00\n") || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: raw bytes in the message %q", c.name, err)
		}
	}
	must(t, out.Write(t.Context(), tx, lent("b-1")))
	must(t, tx.Commit(t.Context()))
	outboxtest.Require(t, pool, lent("b-1"))
}

func TestEventErrorNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return out.Write(t.Context(), tx, record(func(r *outbox.Record) { r.Fields["copies"] = "many" }))
	})
	if text := err.Error(); !strings.HasPrefix(text, "event 0 (library.BookLent): field copies: does not fit the schema: ") {
		t.Errorf("the message is %q", text)
	}
	var cause *avro.FieldError
	if !errors.As(err, &cause) || cause.Schema != "library.BookLent" {
		t.Errorf("the encoder's error is not there: %v", err)
	}
}

func TestLimitsCanBeChanged(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool, outbox.WithLimits(outbox.Limits{Key: 5, Payload: 40, Headers: 1, HeaderBytes: 4}))
	tx := begin(t, pool)
	for _, e := range []outbox.Event{
		lentRecord("b-1234"),
		record(func(r *outbox.Record) { r.Fields["note"] = strings.Repeat("n", 40) }),
		record(func(r *outbox.Record) { r.Headers = map[string]string{"a": "", "b": ""} }),
		header("a", "1234"),
	} {
		if err := out.Write(t.Context(), tx, e); !errors.Is(err, outbox.ErrTooLarge) {
			t.Errorf("%+v: got %v, want ErrTooLarge", e, err)
		}
	}
	fits := record(func(r *outbox.Record) { r.Key = "12345"; r.Headers = map[string]string{"a": "123"} })
	must(t, out.Write(t.Context(), tx, fits))
}

// What the defaults let through is stored whole.
func TestEventsAtTheLimits(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	out := newOutbox(t, pool)
	tx := begin(t, pool)
	largest := outbox.Record{
		Type: "library.Remark", Topic: strings.Repeat("t", 249), Key: strings.Repeat("k", 1024),
		Fields:  map[string]any{"text": strings.Repeat("x", 960<<10-3)}, // three bytes of length before it
		Headers: map[string]string{"a": strings.Repeat("\"", 8<<10-1)},
	}
	must(t, out.Write(t.Context(), tx, largest))
	outboxtest.Require(t, tx, largest)
}
