package backfill_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/backfill"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const itemSaved = `{"type": "record", "name": "ItemSaved", "namespace": "depot", "millrace.topic": "depot.items", "millrace.key": "id", "fields": [
	{"name": "id", "type": "long"}, {"name": "label", "type": "string"}, {"name": "rank", "type": "int", "default": 0}]}`

// rig is a database with a table of items and an outbox.
type rig struct {
	t     *testing.T
	db    *harness.PostgresDB
	conn  *pgx.Conn
	cfg   backfill.Config
	codec *avro.Codec
}

func newRig(t *testing.T, rows int) *rig {
	t.Helper()
	db := harness.Postgres(t)
	r := &rig{t: t, db: db, conn: db.Conn(t)}
	if _, err := migrate.Up(t.Context(), r.conn); err != nil {
		t.Fatal(err)
	}
	r.exec("create table item (id bigint primary key, label text not null, rank int not null default 0)")
	r.exec("insert into item select i, 'item ' || i, i % 10 from generate_series(1, $1::int) i", rows)
	r.cfg = backfill.Config{Name: "items", Table: "item", Key: []string{"id"}, Type: "depot.ItemSaved", Catalogue: catalogue(t, itemSaved), Batch: 7}
	var err error
	if r.codec, err = avro.New(itemSaved); err != nil {
		t.Fatal(err)
	}
	return r
}

func catalogue(t *testing.T, texts ...string) *schemas.Catalogue {
	t.Helper()
	var all []*schemas.Schema
	for _, text := range texts {
		s, err := schemas.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	c, err := schemas.NewCatalogue(all...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) exec(query string, args ...any) {
	r.t.Helper()
	if _, err := r.conn.Exec(context.Background(), query, args...); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// run runs a backfill on a connection of its own, as a process would.
func (r *rig) run(ctx context.Context, cfg backfill.Config) (backfill.Result, error) {
	conn, err := pgx.Connect(ctx, r.db.DSN)
	if err != nil {
		return backfill.Result{}, err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return backfill.Run(ctx, conn, cfg)
}

func (r *rig) finish() backfill.Result {
	r.t.Helper()
	did, err := r.run(r.t.Context(), r.cfg)
	if err != nil || !did.Finished {
		r.t.Fatalf("%+v, %v", did, err)
	}
	return did
}

// event is what the outbox holds.
type event struct {
	key, headers string
	fields       map[string]any
}

func (r *rig) events() []event {
	r.t.Helper()
	rows, err := r.conn.Query(r.t.Context(), "select key, coalesce(headers::text, ''), payload from outbox.event order by id")
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event, err error) {
		var payload []byte
		if err = row.Scan(&e.key, &e.headers, &payload); err == nil {
			e.fields, err = r.codec.Decode(payload)
		}
		return e, err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// once holds the events against the table: one for each row.
func (r *rig) once(rows int) {
	r.t.Helper()
	seen := map[string]int{}
	for _, e := range r.events() {
		seen[e.key]++
		if want := "item " + e.key; e.fields["label"] != want {
			r.t.Errorf("row %s: %v", e.key, e.fields)
		}
		if e.headers != `{"source": "test", "millrace-snapshot": "items"}` && e.headers != `{"millrace-snapshot": "items"}` {
			r.t.Errorf("row %s: headers %s", e.key, e.headers)
		}
	}
	for key, n := range seen {
		if n != 1 {
			r.t.Errorf("row %s became %d events", key, n)
		}
	}
	if len(seen) != rows {
		r.t.Errorf("%d rows became events, want %d", len(seen), rows)
	}
}

// Promise 1: Nothing invented, nothing lost: a backfill that is ended anywhere, again and again, makes one event of each row.
func TestEveryRowBecomesOneEvent(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 200)
	r.cfg.Headers = map[string]string{"source": "test"}
	went := int64(0)
	for range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		cfg, left := r.cfg, 1+random.IntN(4)
		cfg.Progress = func(backfill.Progress) {
			if left--; left == 0 {
				time.AfterFunc(time.Duration(random.IntN(3))*time.Millisecond, cancel)
			}
		}
		did, err := r.run(ctx, cfg)
		cancel()
		if err == nil && !did.Already && !did.Finished {
			t.Errorf("%+v", did)
		}
		went = max(went, did.Before)
	}
	did := r.finish()
	if went == 0 || did.Before+did.Rows != 200 {
		t.Errorf("%+v after %d", did, went)
	}
	r.once(200)
	if again := r.finish(); !again.Already || again.Rows != 0 {
		t.Errorf("a finished one: %+v", again)
	}
	states, err := backfill.List(t.Context(), r.conn, "")
	if err != nil || len(states) != 1 || states[0].State != "finished" || states[0].Rows != 200 || states[0].Total != 200 || states[0].FinishedAt.IsZero() {
		t.Errorf("%+v %v", states, err)
	}
	if ok, err := backfill.Reset(t.Context(), r.conn, "", "items"); !ok || err != nil {
		t.Errorf("reset: %v %v", ok, err)
	}
	if anew := r.finish(); anew.Already || anew.Rows != 200 {
		t.Errorf("after the reset: %+v", anew)
	}
}

// Promise 2: Order: a snapshot never stands behind an event of a writer and holds the state before it. The writer has the row when the
// backfill comes to it, and has written its event already.
func TestASnapshotWaitsForTheWriterOfItsRow(t *testing.T) {
	t.Parallel()
	r := newRig(t, 20)
	out, err := outbox.New(t.Context(), r.conn, r.cfg.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := r.db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{5, 11} {
		if _, err := writer.Exec(t.Context(), "update item set label = 'newer' where id = $1", id); err != nil {
			t.Fatal(err)
		}
		if err := out.Write(t.Context(), writer, outbox.Record{Type: "depot.ItemSaved", Fields: map[string]any{"id": id, "label": "newer"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := writer.Exec(t.Context(), "delete from item where id = 6"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	var once sync.Once
	cfg := r.cfg
	cfg.Progress = func(p backfill.Progress) {
		if p.Waits {
			once.Do(func() { close(waits) })
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.run(t.Context(), cfg)
		done <- err
	}()
	select {
	case <-waits:
	case err := <-done:
		t.Fatalf("it did not wait for the writer: %v", err)
	}
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	for _, e := range r.events() {
		last[e.key] = fmt.Sprint(e.fields["label"])
	}
	if len(last) != 19 || last["5"] != "newer" || last["11"] != "newer" || last["4"] != "item 4" {
		t.Errorf("the last event of each row: %v", last)
	}
}

// A writer that waits for a row of the batch, and has one that the batch wants, is not the one that is ended.
func TestTheBackfillGivesWayInADeadlock(t *testing.T) {
	t.Parallel()
	r := newRig(t, 300)
	r.cfg.Batch = 100
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var failed error
	conn := r.db.Conn(t)
	writers.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			failed = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				for _, id := range []int{280 - n%7, 20 + n%5, 3} { // against the order of the backfill
					if _, err := tx.Exec(t.Context(), "update item set rank = rank + 1 where id = $1", id); err != nil {
						return err
					}
				}
				return nil
			})
			if failed != nil {
				return
			}
		}
	})
	did := r.finish()
	cancel()
	writers.Wait()
	if failed != nil || did.Rows != 300 {
		t.Errorf("%+v, the writer: %v", did, failed)
	}
	r.once(300)
}

func TestNeverTwoAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	inside, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg := r.cfg
	cfg.Progress = func(backfill.Progress) { once.Do(func() { close(inside); <-leave }) }
	done := make(chan error, 1)
	go func() {
		_, err := r.run(t.Context(), cfg)
		done <- err
	}()
	<-inside
	if _, err := r.run(t.Context(), r.cfg); !errors.Is(err, backfill.ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := backfill.Reset(t.Context(), r.conn, "", "items"); !errors.Is(err, backfill.ErrRunning) {
		t.Errorf("reset of one that runs: %v", err)
	}
	if states, err := backfill.List(t.Context(), r.conn, ""); err != nil || len(states) != 1 || states[0].State != "running" {
		t.Errorf("%+v %v", states, err)
	}
	other := r.cfg
	other.Name = "others"
	if did, err := r.run(t.Context(), other); err != nil || did.Rows != 100 {
		t.Errorf("another name: %+v %v", did, err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A dry run looks at every row and says which do not fit; the real one stops at the first, and its batch is not written.
func TestRowsThatDoNotFit(t *testing.T) {
	t.Parallel()
	r := newRig(t, 30)
	r.exec("alter table item alter label drop not null; update item set label = null where id in (9, 20)")
	dry := r.cfg
	dry.DryRun = true
	did, err := r.run(t.Context(), dry)
	if err != nil || did.Rows != 30 || did.Unfit != 2 || len(did.Faults) != 2 || did.Faults[0].Key[0] != "9" || !strings.Contains(did.Faults[0].Reason, "label") {
		t.Errorf("%+v %v", did, err)
	}
	if n := len(r.events()); n != 0 {
		t.Errorf("a dry run wrote %d events", n)
	}
	_, err = r.run(t.Context(), r.cfg)
	var row *backfill.RowError
	if !errors.Is(err, backfill.ErrUnfit) || !errors.As(err, &row) || row.Key[0] != "9" {
		t.Errorf("got %v", err)
	}
	if n := len(r.events()); n != 7 {
		t.Errorf("%d events, want those of the first batch", n)
	}
	r.exec("update item set label = 'item ' || id where label is null")
	r.finish()
	r.once(30)
}

func TestAChangedDeclarationDoesNotGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 30)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := r.cfg
	cfg.Progress = func(backfill.Progress) { cancel() }
	if _, err := r.run(ctx, cfg); err == nil {
		t.Fatal("it was not interrupted")
	}
	cfg = r.cfg
	cfg.Fields = map[string]string{"label": "id"}
	if _, err := r.run(t.Context(), cfg); !errors.Is(err, backfill.ErrChanged) {
		t.Errorf("got %v", err)
	}
	r.finish()
	r.once(30)
}

// Keys of several columns and types, in the order of the database; names that need quotes; a query over two tables.
func TestKeysAndQueries(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.exec(`create schema "My Shop"; create table "My Shop"."Line" ("Order" uuid, "No" int, at timestamptz, note text collate "C", primary key ("Order", "No", at, note));
		insert into "My Shop"."Line" select ('00000000-0000-0000-0000-' || lpad((i % 3)::text, 12, '0'))::uuid, i % 5, timestamptz '2026-01-01 00:00:00.000001+00' + i * interval '1 microsecond', 'n' || i
		  from generate_series(1, 60) i;
		create table name (no int primary key, text text); create table loose (id text unique); insert into name values (0, 'zero'), (1, 'one'), (2, 'two'), (3, 'three')`)
	text := `{"type": "record", "name": "LineSaved", "namespace": "depot", "millrace.topic": "depot.lines", "millrace.key": "id", "fields": [
		{"name": "id", "type": "string"}, {"name": "name", "type": ["null", "string"], "default": null}]}`
	cfg := backfill.Config{Name: "lines", Table: `"My Shop"."Line"`, Key: []string{"Order", "No", "at", "note"}, Type: "depot.LineSaved",
		Catalogue: catalogue(t, text), Fields: map[string]string{"id": "note"}, Batch: 4}
	if did, err := r.run(t.Context(), cfg); err != nil || did.Rows != 60 {
		t.Fatalf("%+v %v", did, err)
	}
	cfg.Name, cfg.Table = "joined", ""
	cfg.Query = `select l.note as id, n.text as name from "My Shop"."Line" l join name n on n.no = l."No";`
	cfg.Key, cfg.Fields = []string{"id"}, nil
	if did, err := r.run(t.Context(), cfg); err != nil || did.Rows != 48 {
		t.Fatalf("%+v %v", did, err)
	}
	var lines, joined int
	if err := r.conn.QueryRow(t.Context(), `select count(distinct key) filter (where headers->>'millrace-snapshot' = 'lines'),
		count(distinct key) filter (where headers->>'millrace-snapshot' = 'joined') from outbox.event`).Scan(&lines, &joined); err != nil || lines != 60 || joined != 48 {
		t.Errorf("%d lines, %d joined, %v", lines, joined, err)
	}
	for i, c := range []struct {
		change func(*backfill.Config)
		field  string
	}{
		{func(c *backfill.Config) { c.Query = "select id, count(*) from item group by id" }, ""},
		{func(c *backfill.Config) { c.Query = "select note as id from nowhere" }, "query"},
		{func(c *backfill.Config) { c.Query = `select 'x' as id from "My Shop"."Line"` }, "key"},
		{func(c *backfill.Config) { c.Query = `select nullif(note, 'n7') as id from "My Shop"."Line"` }, "key"},
		{func(c *backfill.Config) { c.Query, c.Table = "", "nowhere" }, "table"},
		{func(c *backfill.Config) { c.Query, c.Table, c.Key = "", "loose", []string{"id"} }, "key"},
		{func(c *backfill.Config) {
			c.Query, c.Table, c.Key = "", `"My Shop"."Line"`, []string{"note"}
			c.Fields = map[string]string{"id": "note"}
		}, "key"},
		{func(c *backfill.Config) { c.Query, c.Table, c.Key = "", `"My Shop"."Line"`, []string{"nope"} }, "key"},
		{func(c *backfill.Config) { c.Fields = map[string]string{"name": "nope"} }, "fields.name"},
		{func(c *backfill.Config) { c.Fields = map[string]string{"nope": "id"} }, "fields.nope"},
		{func(c *backfill.Config) { c.Type = "depot.Nope" }, "type"},
	} {
		bad := cfg
		bad.Name = fmt.Sprintf("bad%d", i)
		c.change(&bad)
		_, err := r.run(t.Context(), bad)
		var d *backfill.DeclarationError
		if err == nil || errors.As(err, &d) != (c.field != "") || d != nil && d.Field != c.field {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestWithoutTheTableItSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.exec("drop table outbox.backfill")
	if _, err := r.run(t.Context(), r.cfg); !errors.Is(err, backfill.ErrNotMigrated) {
		t.Errorf("got %v", err)
	}
	if _, err := backfill.List(t.Context(), r.conn, ""); !errors.Is(err, backfill.ErrNotMigrated) {
		t.Errorf("got %v", err)
	}
}

// A result is printed as JSON: what is told of a row must be there.
func TestFaultsAreShown(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(backfill.Result{Name: "x", Unfit: 1, Faults: []backfill.Fault{{Key: []string{"1"}, Reason: "r"}}})
	if want := `{"name":"x","rows":0,"finished":false,"unfit":1,"faults":[{"key":["1"],"reason":"r"}],"seconds":0}`; err != nil || string(text) != want {
		t.Errorf("%s", text)
	}
}
