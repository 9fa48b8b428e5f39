package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// told is a declaration that tells its parts apart: each column's rule is its name, unless rules has another.
type told struct {
	declared
	existence string
	rules     map[string]string
}

func (d told) Parts() projection.Parts {
	p := projection.Parts{Existence: "x" + d.existence, Columns: map[string]string{}}
	for _, c := range d.columns {
		p.Columns[c.Name] = c.Name + d.rules[c.Name]
	}
	return p
}

func (d told) Digest() string {
	return fmt.Sprintf("%x", fmt.Sprint(d.topic, d.existence, d.rules, d.columns))
}

// tell declares an entity item with columns written as name type.
func tell(t *testing.T, columns ...string) told {
	t.Helper()
	d := told{declared: declared{entity: "item", topic: "shop.items"}, rules: map[string]string{}}
	for _, c := range columns {
		name, text, _ := strings.Cut(c, " ")
		typ, err := projection.ParseType(text)
		if err != nil {
			t.Fatal(err)
		}
		d.columns = append(d.columns, projection.Column{Name: name, Type: typ})
	}
	return d
}

var items = consumers.TopicPartition{Topic: "shop.items"}

// Promise 8: columns whose declaration did not change keep their values.
func TestPromise8ATableFollowsItsDeclarationInPlace(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Schema: "e"}
	day := time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	cfg.Projections = []fold.Projection{tell(t, "price decimal(4,2)", "n int", "m int", "due date", "old text", "prices list(decimal(4,2))", "doc json", "note text")}
	w := openAt(t, cfg)
	c := claim(t, w, items)
	doc := map[string]any{"whole": 2.0}
	commit(t, w, put("item", items, c.Epoch, 0, "a", big.NewRat(1999, 100), int64(7), int64(1)<<53, day, "kept", []any{big.NewRat(1, 2), nil}, doc, "nul \x00"))

	conn := connect(t, cfg.URL)
	run(t, conn, `CREATE ROLE reader_e`)
	t.Cleanup(func() { run(t, conn, `DROP OWNED BY reader_e; DROP ROLE reader_e`) })
	run(t, conn, `GRANT SELECT ON e_silver.item TO reader_e WITH GRANT OPTION; ALTER VIEW e_silver.item SET (security_barrier = true); COMMENT ON VIEW e_silver.item IS 'it''s ours'`)

	cfg.Projections = []fold.Projection{tell(t, "added text", "price decimal(12,4)", "n decimal(38,10)", "m float", "due timestamp", "prices list(decimal(10,3))", "doc json", "note text")}
	w2 := openAt(t, cfg)
	got, err := w2.Load(context.Background(), "item", []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{nil, big.NewRat(1999, 100), big.NewRat(7, 1), float64(1 << 53), day, []any{big.NewRat(1, 2), nil}, doc, "nul \x00"}
	if !reflect.DeepEqual(got["a"].Values, want) {
		t.Errorf("after the change the state is %v, want %v", got["a"].Values, want)
	}
	c = claim(t, w2, items)
	commit(t, w2, put("item", items, c.Epoch, 1, "a", "new", big.NewRat(123456, 10000), big.NewRat(8, 1), 0.5, day.Add(time.Hour), []any{}, nil, "x"))
	row := one[string](t, conn, `SELECT r::text FROM (SELECT * FROM e_silver.item) r`)
	if want := `(a,12.3456,8.0000000000,0.5,"2024-02-29 01:00:00+00",kept,{},,x,2,"2026-05-01 12:00:00.123456+00",new)`; row != want {
		t.Errorf("readers see\n%s, want\n%s", row, want)
	}
	kept := one[string](t, conn, `SELECT has_table_privilege('reader_e', 'e_silver.item', 'SELECT WITH GRANT OPTION') || ' ' || (SELECT reloptions::text || obj_description(oid) FROM pg_class WHERE oid = 'e_silver.item'::regclass)`)
	if kept != "true {security_barrier=true}it's ours" {
		t.Errorf("of the view's settings there is left: %s", kept)
	}
}

// What rows cannot follow is refused before anything changes, with the reason.
func TestADeclarationThatRowsCannotFollowNeedsARebuild(t *testing.T) {
	t.Parallel()
	url, conn := server(t), connect(t, server(t))
	_ = conn
	base := tell(t, "a int", "b decimal(10,2)", "gone text")
	with := func(change func(d *told)) told {
		d := base
		d.columns, d.rules = append([]projection.Column{}, base.columns...), map[string]string{}
		change(&d)
		return d
	}
	retype := func(i int, text string) func(*told) {
		return func(d *told) { d.columns[i].Type = tell(t, "x "+text).columns[0].Type }
	}
	cases := []struct {
		name string
		next fold.Projection
		text string
	}{
		{"another rule", with(func(d *told) { d.rules["b"] = "!" }), "column b is made in another way now"},
		{"other events", with(func(d *told) { d.existence = "!" }), "other events make or delete it now"},
		{"another topic", with(func(d *told) { d.topic = "shop.others" }), "it follows topic shop.others now"},
		{"fewer digits", with(retype(1, "decimal(9,2)")), "column b is decimal(9,2) now and was decimal(10,2), which does not fit"},
		{"fewer digits before the point", with(retype(1, "decimal(10,3)")), "does not fit"},
		{"another kind", with(retype(0, "text")), "column a is text now and was int"},
		{"too narrow for every int", with(retype(0, "decimal(19,1)")), "does not fit"},
		{"a value that has no exact float", with(retype(0, "float")), "column a holds values that have no exact float"},
		{"a declaration that does not tell", declared{entity: "item", topic: "shop.items", digest: "x", columns: base.columns}, "does not tell what of it"},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{URL: url, Schema: fmt.Sprint("r", i), Projections: []fold.Projection{base}}
			w := openAt(t, cfg)
			commit(t, w, put("item", items, claim(t, w, items).Epoch, 0, "k", int64(1)<<53+1, big.NewRat(1, 4), "x"))
			cfg.Projections = []fold.Projection{c.next}
			wantRefused(t, cfg, ErrRebuild, c.text)
			wantRefused(t, cfg, nil, "as another generation")
			// It is as it was, and the process that has it open goes on.
			commit(t, w, put("item", items, claim(t, w, items).Epoch, 1, "k", int64(2), big.NewRat(1, 4), "y"))
		})
	}
}

// A column that was not declared while events went by has missed them.
func TestAColumnThatComesBackNeedsARebuild(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{tell(t, "a int", "b int")}}
	w := openAt(t, cfg)
	commit(t, w, fold.Commit{TopicPartition: items, Epoch: claim(t, w, items).Epoch, From: 0, Next: 1})
	cfg.Projections = []fold.Projection{tell(t, "a int")}
	openAt(t, cfg)
	openAt(t, cfg) // the same again
	cfg.Projections = []fold.Projection{tell(t, "a int", "b int")}
	wantRefused(t, cfg, ErrRebuild, "column b was not declared for a while")
}

// A view that others have made on ours keeps a column from being widened; the reason says so.
func TestWhatOthersHaveMadeIsNotDropped(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{tell(t, "a int")}}
	openAt(t, cfg)
	conn := connect(t, cfg.URL)
	run(t, conn, "CREATE VIEW public.mine AS SELECT a FROM silver.item")
	cfg.Projections = []fold.Projection{tell(t, "a int", "b text")}
	openAt(t, cfg) // adding is possible
	cfg.Projections = []fold.Projection{tell(t, "a decimal(38,0)", "b text")}
	wantRefused(t, cfg, nil, "something that others made depends on it")
	run(t, conn, "SELECT a FROM public.mine")
}

// DDL in mid-batch: it waits for the commit at work, and the process that looked before does not write what it does not know of.
func TestChangesOfTablesAreABarrier(t *testing.T) {
	t.Parallel()
	url := server(t)
	conn := connect(t, url)
	before := Config{URL: url, Projections: []fold.Projection{tell(t, "a int"), orders}}
	w := openAt(t, before)
	c, co := claim(t, w, items), claim(t, w, tp0)
	entered, held := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release) // the warehouse is closed after that, and waits for its commits
	w.hook = func(point string) error {
		if point == "before commit" {
			close(entered)
			<-held
		}
		return nil
	}
	first := make(chan error, 1)
	go func() { first <- w.Commit(context.Background(), put("item", items, c.Epoch, 0, "k", int64(1))) }()
	<-entered
	// What was sent may not have been run yet: it is at work when it holds its lock.
	until(t, conn, "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.mode = 'ShareLock')")
	opened := make(chan *Warehouse, 1)
	go func() {
		next, err := Open(Config{URL: url, Projections: []fold.Projection{tell(t, "a int", "b int"), orders}})
		if err != nil {
			t.Error(err)
		}
		opened <- next
	}()
	until(t, conn, "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)")
	select {
	case <-opened:
		t.Error("the table was changed while a commit was at work")
	default:
	}
	release()
	if err := <-first; err != nil {
		t.Errorf("the commit at work: %v", err)
	}
	next := <-opened
	if next == nil {
		return
	}
	defer func() { _ = next.Close() }()
	w.hook = nil
	for range 2 {
		err := w.Commit(context.Background(), put("item", items, c.Epoch, 1, "k", int64(2)))
		if !errors.Is(err, ErrReplaced) || consumers.Classify(err) != consumers.Systemic {
			t.Errorf("with a declaration that was replaced: %v", err)
		}
	}
	commit(t, next, put("item", items, c.Epoch, 1, "k", int64(2), int64(3)))
	_ = co
}

// A process whose own entities have not changed goes on when another's have.
func TestAChangeOfAnotherEntityIsTakenInStride(t *testing.T) {
	t.Parallel()
	url := server(t)
	w := openAt(t, Config{URL: url, Projections: []fold.Projection{orders}})
	c := claim(t, w, tp0)
	other := Config{URL: url, Projections: []fold.Projection{tell(t, "a int"), orders}}
	openAt(t, other)
	other.Projections = []fold.Projection{tell(t, "a int", "b int"), orders}
	openAt(t, other)
	batch := put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil)
	err := w.Commit(context.Background(), batch)
	if err == nil || consumers.Classify(err) != consumers.Transient {
		t.Errorf("the first commit after the change: %v", err)
	}
	commit(t, w, batch)
	commit(t, w, put("order", tp0, c.Epoch, 1, "k", "y", nil, nil, nil, nil))
}
