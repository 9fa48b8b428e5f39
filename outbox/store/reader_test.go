package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/schemas"
)

// Every column comes out as it went in.
func TestEventsComeOutWhole(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	at := time.Date(1999, 12, 31, 23, 59, 58, 123456000, time.UTC)
	fp := schemas.Fingerprint{1, 2, 3, 15: 16}
	eventID := [16]byte{9, 8, 7, 15: 1}
	exec(t, conn, `insert into outbox.event (event_id, topic, key, type, schema_fp, payload, headers, occurred_at)
		values ($1, 'a.topic', 'ключ', 'a.Type', $2, '\x0001ff', '{"traceparent": "00-é"}', $3)`, eventID, fp[:], at)
	exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, body, occurred_at)
		values ('a.topic', '', 'b.Type', $1, '{"n": 1.50, "s": "é"}', 'infinity')`, fp[:])
	exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload, occurred_at) values ('t', 'k', 'x', $1, '', '-infinity')`, fp[:])
	for _, how := range []struct {
		name  string
		limit int
	}{{"one page", 10}, {"pages of one", 1}} {
		t.Run(how.name, func(t *testing.T) {
			w, page, err := r.Open(t.Context(), Snapshot{}, how.limit)
			if err != nil {
				t.Fatal(err)
			}
			events := slices.Clone(page.Events)
			for page.More {
				if page, err = r.Page(t.Context(), w, events[len(events)-1].ID, how.limit); err != nil {
					t.Fatal(err)
				}
				events = append(events, page.Events...)
			}
			if len(events) != 3 {
				t.Fatalf("%d events, want 3", len(events))
			}
			a, b, c := events[0], events[1], events[2]
			if a.EventID != eventID || a.Topic != "a.topic" || a.Key != "ключ" || a.Type != "a.Type" || a.Fingerprint != fp || !a.OccurredAt.Equal(at) {
				t.Errorf("the first event came out as %+v", a)
			}
			if !bytes.Equal(a.Payload, []byte{0, 1, 0xff}) || a.Body != nil || string(a.Headers) != `{"traceparent": "00-é"}` {
				t.Errorf("payload %x, body %q, headers %q", a.Payload, a.Body, a.Headers)
			}
			if b.Payload != nil || string(b.Body) != `{"n": 1.50, "s": "é"}` || b.Headers != nil || b.Key != "" || b.OccurredAt.Year() != 9999 {
				t.Errorf("the second event came out as %+v", b)
			}
			if c.Payload == nil || len(c.Payload) != 0 || c.Body != nil || c.OccurredAt.Year() != 1 {
				t.Errorf("the third event came out as %+v", c)
			}
			if a.Xid == 0 || a.Xid >= b.Xid || a.ID >= b.ID {
				t.Errorf("xids %d, %d; ids %d, %d", a.Xid, b.Xid, a.ID, b.ID)
			}
		})
	}
}

// Guarantee 3: a page is bounded, however many rows one transaction wrote. A late transaction's rows are merged
// strictly by id.
func TestLateTransactionOfManyRows(t *testing.T) {
	const limit, late = 500, 50_000
	db, conn := newOutbox(t)
	r := newReader(t, db)
	writer := begin(t, db)
	fill(t, writer, "late", late/2)
	fill(t, conn, "early", 10)
	got, last := open(t, r, Snapshot{}, limit) // the writer is in its xip from now on
	if len(got) != 10 || len(last.Xip) == 0 {
		t.Fatalf("%d events and %d transactions at work, want 10 and at least 1", len(got), len(last.Xip))
	}
	fill(t, conn, "between", 2000)
	fill(t, writer, "late", late/2)
	exec(t, writer, `commit`)
	fill(t, conn, "fresh", 2000)
	got, last = open(t, r, last, limit)
	want := slices.Concat(ids(1, late/2), ids(late/2+11, late+4010))
	if !slices.Equal(got, want) {
		t.Fatalf("got %d ids, want %d", len(got), len(want))
	}
	if got, _ = open(t, r, last, limit); len(got) != 0 {
		t.Fatalf("%d events come again", len(got))
	}
}

// Guarantee 1: a restart reads on in the identical window, whatever was committed since.
func TestReopenedWindowIsIdentical(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	late, never := begin(t, db), begin(t, db)
	fill(t, late, "late", 30)
	fill(t, never, "never", 30)
	fill(t, conn, "k", 20)
	_, last := open(t, r, Snapshot{}, 10)
	fill(t, conn, "k", 40)
	exec(t, late, `commit`)
	fill(t, conn, "k", 40)
	w, page, err := r.Open(t.Context(), last, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := all(t, r, w, page, 7)
	if len(want) != 110 {
		t.Fatalf("%d events, want 110", len(want))
	}
	exec(t, never, `commit`)
	fill(t, conn, "k", 500)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		from := rng.IntN(len(want)+1) - 1
		limit := 1 + rng.IntN(50)
		again := newReader(t, db)
		v, err := again.Reopen(t.Context(), w.Last, w.Upper)
		if err != nil {
			t.Fatal(err)
		}
		after := int64(0)
		if from >= 0 {
			after = want[from]
		}
		page, err := again.Page(t.Context(), v, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := all(t, again, v, page, limit); !slices.Equal(got, want[from+1:]) {
			t.Fatalf("after %d by pages of %d: %v, want %v", after, limit, got, want[from+1:])
		}
	}
	got, _ := open(t, r, w.Upper, 1000)
	if len(got) != 530 {
		t.Errorf("the next window has %d events, want 530", len(got))
	}
}

// Guarantee 3: bounded in bytes. Large payloads are not even sent in vain; JSON that is compressed in the table is cut
// as it comes.
func TestPagesAreBoundedInBytes(t *testing.T) {
	const pageBytes, each = 1 << 20, 300 << 10
	db, conn := newOutbox(t)
	r := newReader(t, db, PageBytes(pageBytes))
	size := func(p Page) (n int) {
		for _, e := range p.Events {
			n += len(e.Payload) + len(e.Body)
		}
		return n
	}
	for _, kind := range []struct {
		name, insert string
		most         int
	}{
		{"payload", `(payload, topic, key, type, schema_fp) select convert_to(string_agg(md5(g::text || random()), ''), 'UTF8')`, pageBytes + each},
		{"compressible payload", `(payload, topic, key, type, schema_fp) select convert_to(string_agg('12345678901234567890123456789012', ''), 'UTF8')`, pageBytes + each},
		{"compressible body", `(body, topic, key, type, schema_fp) select to_jsonb(string_agg('12345678901234567890123456789012', ''))`, 2*pageBytes + each},
	} {
		t.Run(kind.name, func(t *testing.T) {
			last := current(t, conn)
			for range 12 {
				exec(t, conn, `insert into outbox.event `+kind.insert+`, 't', 'k', 'x', '\x00000000000000000000000000000000' from generate_series(1, $1::int / 32) g`, each)
			}
			w, page, err := r.Open(t.Context(), last, 100)
			if err != nil {
				t.Fatal(err)
			}
			events, pages := 0, 0
			for {
				pages++
				events += len(page.Events)
				if n := size(page); n > kind.most {
					t.Errorf("a page of %d bytes, want at most %d", n, kind.most)
				}
				if !page.More {
					break
				}
				after, _ := page.LastID()
				page.Release()
				if page, err = r.Page(t.Context(), w, after, 100); err != nil {
					t.Fatal(err)
				}
			}
			if events != 12 || pages < 2 {
				t.Errorf("%d events in %d pages, want 12 in several", events, pages)
			}
		})
	}
}

// An event larger than a page is a page of its own: the window does not stop at it.
func TestEventLargerThanAPage(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db, PageBytes(1000))
	for range 3 {
		exec(t, conn, `insert into outbox.event (payload, topic, key, type, schema_fp)
			values (decode(repeat('ab', 100000), 'hex'), 't', 'k', 'x', '\x00000000000000000000000000000000')`)
	}
	if got, _ := open(t, r, Snapshot{}, 10); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

func TestRowsThatVanishAreAnError(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "k", 20)
	w, page, err := r.Open(t.Context(), Snapshot{}, 5)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `truncate outbox.event`)
	after, _ := page.LastID()
	if _, err = r.Page(t.Context(), w, after, 5); !errors.Is(err, ErrVanished) || !NeedsOperator(err) {
		t.Errorf("got %v, want ErrVanished", err)
	}
}

// Guarantee 5: the gate opens when the WAL is flushed, and not before; a forced flush opens it.
func TestGate(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	exec(t, conn, `set synchronous_commit = off`)
	closed := 0
	var last Snapshot
	for range 50 {
		fill(t, conn, "k", 1)
		w, page, err := r.Open(t.Context(), last, 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) != 1 {
			t.Fatalf("%d events, want 1", len(page.Events))
		}
		flushed, err := r.Flushed(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if !flushed {
			closed++
			if _, err := w.Advance(); !errors.Is(err, ErrNotFlushed) {
				t.Fatalf("advanced before the gate: %v", err)
			}
		}
		flush(t, r, w)
		if last, err = w.Advance(); err != nil {
			t.Fatal(err)
		}
	}
	if closed == 0 {
		t.Error("the gate was never found closed after 50 asynchronous commits")
	}
}

func TestVerifyRow(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "k", 3)
	var second [16]byte
	if err := conn.QueryRow(t.Context(), `select event_id from outbox.event where id = 2`).Scan(&second); err != nil {
		t.Fatal(err)
	}
	check := func(what string, id int64, eventID [16]byte, want error) {
		t.Helper()
		if err := r.VerifyRow(t.Context(), id, eventID); !errors.Is(err, want) || want != nil && !NeedsOperator(err) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	check("as published", 2, second, nil)
	check("another event has the id", 2, [16]byte{1}, ErrDiverged)
	check("lost by a failover", 10, second, ErrDiverged)
	exec(t, conn, `truncate outbox.event_0`)
	check("taken by retention", 2, second, nil)
	check("taken by retention, with other leaves in use", 1<<32+5, second, nil)
}

func TestSchemaOfAnEvent(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	want, err := schemas.Parse(`{"type": "record", "name": "shop.Paid", "millrace.topic": "shop.orders", "fields": [{"name": "id", "type": "string"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `insert into outbox.schema (fingerprint, name, topic, definition) values ($1, $2, $3, $4)`, want.Fingerprint[:], want.Name, want.Topic, want.Text)
	got, err := r.Schema(t.Context(), want.Fingerprint)
	if err != nil || *got != *want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := r.Schema(t.Context(), schemas.Fingerprint{1}); !errors.Is(err, ErrNoSchema) {
		t.Errorf("got %v, want ErrNoSchema", err)
	}
}

// A Reader asks for binary results itself, whatever the connection was opened with.
func TestReaderOnASimpleProtocolConnection(t *testing.T) {
	db, conn := newOutbox(t)
	fill(t, conn, "k", 3)
	config, err := pgx.ParseConfig(db.DSN + "&default_query_exec_mode=simple_protocol")
	if err != nil {
		t.Fatal(err)
	}
	simple, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { simple.Close(t.Context()) })
	r, err := NewReader(t.Context(), simple, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := open(t, r, Snapshot{}, 2); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

// Pages do not share memory before they are released.
func TestPagesOwnTheirMemory(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "k", 100)
	w, first, err := r.Open(t.Context(), Snapshot{}, 50)
	if err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(first)
	second, err := r.Page(t.Context(), w, 50, 50)
	if err != nil {
		t.Fatal(err)
	}
	if snapshotOf(first) != before {
		t.Error("reading a page changed another")
	}
	kept := snapshotOf(second)
	first.Release()
	if third, err := r.Page(t.Context(), w, 0, 50); err != nil || snapshotOf(third) != before {
		t.Errorf("a page in used memory differs: %v", err)
	}
	if snapshotOf(second) != kept {
		t.Error("releasing a page changed another")
	}
}

func snapshotOf(p Page) string {
	var b strings.Builder
	for _, e := range p.Events {
		b.WriteString(e.Key)
		b.Write(e.Payload)
	}
	return b.String()
}
