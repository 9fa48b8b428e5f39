package outboxtest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/outboxtest"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

func book(id, fee string) outbox.Record {
	return outbox.Record{Type: "library.BookLent", Fields: map[string]any{"book_id": id, "member_id": "m", "due": "2025-03-14", "fee": fee}}
}

// prepare returns a transaction in which some events were written.
func prepare(t *testing.T, events ...outbox.Event) pgx.Tx {
	t.Helper()
	pool := harness.Postgres(t).Pool(t)
	outboxtest.Migrate(t, pool)
	outboxtest.Migrate(t, pool) // again does no harm
	catalogue, err := schemas.LoadDir("../testdata/schemas")
	if err != nil {
		t.Fatal(err)
	}
	out, err := outbox.New(t.Context(), pool, catalogue)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if err := out.Write(t.Context(), tx, events...); err != nil {
		t.Fatal(err)
	}
	return tx
}

// probe is a test that fails in place of the real one.
type probe struct {
	testing.TB
	message string
}

func (p *probe) Helper() {}

func (p *probe) Fatal(args ...any) {
	p.message = fmt.Sprint(args...)
	runtime.Goexit()
}

func (p *probe) Fatalf(format string, args ...any) { p.Fatal(fmt.Sprintf(format, args...)) }

// failure runs a check that should fail, and returns what it says; empty if it passes.
func failure(t *testing.T, check func(t testing.TB)) string {
	t.Helper()
	p := &probe{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(p)
	}()
	<-done
	return p.message
}

func TestRequireShowsDifferences(t *testing.T) {
	t.Parallel()
	tx := prepare(t, book("b-1", "2.50"), outbox.Envelope{Event: book("b-2", "0"), Headers: map[string]string{"user": "u-1"}})
	for _, c := range []struct {
		name string
		want []outbox.Event
		says []string
	}{
		{"the same", []outbox.Event{book("b-1", "2.5"), book("b-2", "0.00")}, nil},
		{"a field", []outbox.Event{book("b-1", "12.05"), book("b-2", "0")},
			[]string{"the outbox holds 2 events, want 2:\n  event 0: library.BookLent key \"b-1\":\n    field fee: got 2.5, want 12.05"}},
		{"too few", []outbox.Event{book("b-1", "2.50")}, []string{"holds 2 events, want 1", `event 1: unexpected library.BookLent key "b-2" {book_id: "b-2"`}},
		{"too many", []outbox.Event{book("b-1", "2.50"), book("b-2", "0"), book("b-3", "0")}, []string{"event 2: missing library.BookLent"}},
		{"none wanted", nil, []string{"holds 2 events, want 0", "event 0", "event 1"}},
		{"the order", []outbox.Event{book("b-2", "0"), book("b-1", "2.50")}, []string{`event 0`, `got "b-1", want "b-2"`, "event 1"}},
		{"another type", []outbox.Event{outbox.Record{Type: "library.Remark"}, book("b-2", "0")}, []string{"type: got library.BookLent, want library.Remark"}},
		{"key and topic", []outbox.Event{outbox.Envelope{Event: book("b-1", "2.50"), Key: "k", Topic: "t"}, book("b-2", "0")},
			[]string{`key: got "b-1", want "k"`, "topic: got library.books, want t"}},
		{"headers", []outbox.Event{outbox.Envelope{Event: book("b-1", "2.50"), Headers: map[string]string{"user": "u-1"}}, outbox.Envelope{Event: book("b-2", "0"), Headers: map[string]string{"user": "u-2"}}},
			[]string{`header user: missing, want "u-1"`, `header user: got "u-1", want "u-2"`}},
		{"what does not fit", []outbox.Event{book("b-1", "0.333"), book("b-2", "0")}, []string{"the wanted event does not fit its schema", "fee"}},
	} {
		got := failure(t, func(t testing.TB) { outboxtest.Require(t, tx, c.want...) })
		if (got == "") != (c.says == nil) {
			t.Errorf("%s: says %q", c.name, got)
		}
		for _, words := range c.says {
			if !strings.Contains(got, words) {
				t.Errorf("%s: does not say %q:\n%s", c.name, words, got)
			}
		}
	}
}

func TestEventsFailsOnWhatTheRelayWouldPark(t *testing.T) {
	t.Parallel()
	tx := prepare(t)
	_, err := tx.Exec(t.Context(), `select outbox.emit('library.BookLent', null, '{"book_id": "b", "member_id": "m", "due": "someday"}')`)
	if err != nil {
		t.Fatal(err)
	}
	got := failure(t, func(t testing.TB) { outboxtest.Events(t, tx) })
	if !strings.Contains(got, "park") || !strings.Contains(got, "due") {
		t.Errorf("says %q", got)
	}
}

func TestEventsOnSomethingElse(t *testing.T) {
	t.Parallel()
	if got := failure(t, func(t testing.TB) { outboxtest.Events(t, "a string") }); !strings.Contains(got, "cannot query a string") {
		t.Errorf("says %q", got)
	}
}
