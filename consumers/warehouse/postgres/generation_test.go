package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// build opens a generation and applies one event of an order, and of a line where that is declared.
func build(t testing.TB, cfg Config, generation int, status string, p ...fold.Projection) *Warehouse {
	t.Helper()
	cfg.Generation, cfg.Projections = generation, p
	w := openAt(t, cfg)
	batch := put("order", tp0, claim(t, w, tp0).Epoch, 0, "k", status, nil, nil, nil, nil)
	for _, one := range p[1:] {
		batch.Changes[one.Entity()] = batch.Changes["order"]
	}
	commit(t, w, batch)
	return w
}

var lines = declared{entity: "line", topic: orders.topic, digest: "1", columns: orders.columns}

// Promise 8: one step for every reader, of all entities, while commits to both generations go on.
func TestPromise8ReadersSeeOneGenerationWhole(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), ServePatience: 5 * time.Minute} // readers that never rest: a slow machine needs many tries
	all := []*Warehouse{build(t, cfg, 1, "1", orders, lines), build(t, cfg, 2, "2", orders, lines)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 4)
	for _, w := range all {
		go func() { done <- commitUntil(ctx, w) }()
	}
	for _, entities := range [][2]string{{`silver."order"`, "silver.line"}, {"silver.line", `silver."order"`}} {
		go func() { done <- readWhole(ctx, cfg.URL, entities) }()
	}
	for turn := range 4 {
		if err := all[(turn+1)%2].Serve(context.Background()); err != nil {
			t.Error(err)
		}
	}
	stop()
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// commitUntil applies events that change nothing that readers look at, of a topic that no other generation follows.
func commitUntil(ctx context.Context, w *Warehouse) error {
	tp := consumers.TopicPartition{Topic: fmt.Sprint("only.in.", w.space.generation)}
	c, err := w.Claim(context.Background(), tp)
	for n := int64(0); err == nil && ctx.Err() == nil; n++ {
		err = w.Commit(context.Background(), fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: n, Next: n + 1})
	}
	return err
}

// readWhole looks at both entities in one query, all the time. Their views are locked in the order of the query.
func readWhole(ctx context.Context, url string, entities [2]string) error {
	query := fmt.Sprintf("SELECT (SELECT coalesce(string_agg(status, ''), '') FROM %s) || (SELECT coalesce(string_agg(status, ''), '') FROM %s)", entities[0], entities[1])
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }()
	for ctx.Err() == nil {
		var got string
		err := conn.QueryRow(context.Background(), query).Scan(&got)
		if err != nil {
			return err
		}
		if got != "11" && got != "22" {
			return fmt.Errorf("a reader sees %q", got)
		}
	}
	return nil
}

// Promise 8: no reader finds a table empty: one whose snapshot is older than what was built is waited for.
func TestPromise8ServeWaitsForReadersThatAreOlder(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	build(t, Config{URL: dsn}, 1, "old", orders)
	reader := connect(t, dsn)
	run(t, reader, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	run(t, reader, "SELECT count(*) FROM pg_class")
	w := build(t, Config{URL: dsn, ServePatience: time.Millisecond}, 2, "new", orders)
	pid := one[int](t, reader, "SELECT pg_backend_pid()")
	if err := w.Serve(context.Background()); !errors.Is(err, fold.ErrBehind) || !strings.Contains(err.Error(), fmt.Sprint("pid ", pid)) {
		t.Errorf("serve beside an older reader: %v", err)
	}
	if got := one[string](t, reader, `SELECT string_agg(status, '') FROM silver."order"`); got != "old" {
		t.Errorf("the older reader sees %q", got)
	}
	run(t, reader, "COMMIT")
	run(t, reader, "BEGIN") // and holds nothing up from now on, although it is open
	run(t, reader, "SELECT count(*) FROM pg_class")
	if err := w.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, reader, `SELECT string_agg(status, '') FROM silver."order"`); got != "new" {
		t.Errorf("the reader sees %q", got)
	}
}

// Who reads when it is asked is waited for and told of, however long that takes; who begins later is not.
func TestReadersAreAwaitedBeforeServe(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	build(t, Config{URL: dsn}, 1, "old", orders)
	w := build(t, Config{URL: dsn, ServePatience: time.Millisecond}, 2, "new", orders)
	reader, later := connect(t, dsn), connect(t, dsn)
	run(t, reader, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	run(t, reader, "SELECT count(*) FROM pg_class")
	pid := one[int](t, reader, "SELECT pg_backend_pid()")
	told, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- w.AwaitReaders(context.Background(), func(whom string) {
			select {
			case told <- whom:
			default:
			}
		})
	}()
	select {
	case whom := <-told:
		if !strings.Contains(whom, fmt.Sprint("pid ", pid)) {
			t.Errorf("it waits for %s", whom)
		}
	case err := <-done:
		t.Fatal("it waits for nobody: ", err)
	}
	run(t, later, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	run(t, later, "SELECT count(*) FROM pg_class")
	<-told // it looks again, and waits still
	run(t, reader, "COMMIT")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.Serve(context.Background()); !errors.Is(err, fold.ErrBehind) {
		t.Errorf("serve beside a reader that has begun since: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.AwaitReaders(ctx, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	run(t, later, "COMMIT")
	if err := w.Serve(context.Background()); err != nil {
		t.Error(err)
	}
}

// A reader that holds a view is waited for, and then told of; others read on meanwhile.
func TestServeGivesWayToReadersOfAView(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	build(t, Config{URL: dsn}, 1, "old", orders)
	w := build(t, Config{URL: dsn, ServePatience: time.Millisecond}, 2, "new", orders)
	reader, other := connect(t, dsn), connect(t, dsn)
	run(t, reader, "BEGIN")
	run(t, reader, `SELECT * FROM silver."order"`)
	if err := w.Serve(context.Background()); !errors.Is(err, fold.ErrBehind) || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Errorf("serve beside a reader of the view: %v", err)
	}
	if got := one[string](t, other, `SELECT string_agg(status, '') FROM silver."order"`); got != "old" {
		t.Errorf("another reader sees %q", got)
	}
	run(t, reader, "COMMIT")
	if err := w.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// What others have made of the views and the tables behind them outlives the swap, also where a view has to be made anew.
func TestGrantsOutliveServe(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	build(t, Config{URL: dsn, Schema: "g"}, 1, "mine", orders)
	conn := connect(t, dsn)
	run(t, conn, "CREATE ROLE reader_of_g")
	t.Cleanup(func() { run(t, conn, "RESET ROLE; DROP OWNED BY reader_of_g; DROP ROLE reader_of_g") })
	run(t, conn, `GRANT USAGE ON SCHEMA g_silver, g_silver_base, g_bronze TO reader_of_g; GRANT SELECT ON g_silver_base.order_0123456789ab TO reader_of_g;
		GRANT SELECT (_key, status, placed) ON g_silver."order" TO reader_of_g; GRANT SELECT ON g_bronze.events TO reader_of_g;
		ALTER VIEW g_silver."order" SET (security_barrier = true); COMMENT ON VIEW g_silver."order" IS 'it''s ours';
		ALTER TABLE g_silver_base.order_0123456789ab ENABLE ROW LEVEL SECURITY;
		CREATE POLICY mine ON g_silver_base.order_0123456789ab FOR SELECT TO reader_of_g USING (status = 'mine')`)
	if one[int](t, conn, "SELECT current_setting('server_version_num')::int") >= 150000 {
		run(t, conn, `ALTER VIEW g_silver."order" SET (security_invoker = true)`)
	}
	settings := one[string](t, conn, `SELECT reloptions::text || obj_description(oid) FROM pg_class WHERE oid = 'g_silver."order"'::regclass`)

	less := orders // "placed" is gone, so that the view cannot be led on: it is made anew
	less.digest, less.columns = "less", []projection.Column{orders.columns[0], orders.columns[1]}
	w := openAt(t, Config{URL: dsn, Schema: "g", Generation: 2, Projections: []fold.Projection{less}})
	c := claim(t, w, tp0)
	commit(t, w, put("order", tp0, c.Epoch, 0, "k", "mine", nil))
	commit(t, w, put("order", tp0, c.Epoch, 1, "l", "another's", nil))
	if err := w.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, conn, `SELECT reloptions::text || obj_description(oid) FROM pg_class WHERE oid = 'g_silver."order"'::regclass`); got != settings {
		t.Errorf("the settings of the view are %s, want %s", got, settings)
	}
	run(t, conn, "SET ROLE reader_of_g")
	if got := one[string](t, conn, `SELECT string_agg(_key || status, ' ') || (SELECT count(*) FROM g_bronze.events) FROM g_silver."order"`); got != "kmine2" {
		t.Errorf("the reader sees %s", got)
	}
	if _, err := conn.Exec(context.Background(), `SELECT total FROM g_silver."order"`); !is(err, insufficientRight) {
		t.Errorf("the reader may read a column that was not granted: %v", err)
	}
	run(t, conn, "RESET ROLE")
}

// Gold reads what readers see: the rows and the positions of the generation that serves.
func TestGoldFollowsTheGenerationThatServes(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t)}
	first, second := build(t, cfg, 1, "old", orders), build(t, cfg, 2, "new", orders)
	commit(t, second, fold.Commit{TopicPartition: tp0, Epoch: claim(t, second, tp0).Epoch, From: 1, Next: 7})
	look := func(w *Warehouse) (got string) {
		t.Helper()
		e, err := w.Gold()
		if err != nil {
			t.Fatal(err)
		}
		err = e.Transaction(context.Background(), func(tx gold.Tx) error {
			rows, err := tx.Rows(context.Background(), "SELECT o.status, p.next::text, e.base_table FROM "+e.Input("silver.order")+" o, "+e.Meta("positions")+" p, "+e.Meta("entities")+" e")
			got = fmt.Sprint(rows)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, w := range []*Warehouse{first, second} {
		if got := look(w); got != "[[old 1 order_0123456789ab]]" {
			t.Errorf("gold reads %s", got)
		}
	}
	if err := second.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Warehouse{first, second} {
		if got := look(w); got != "[[new 7 order_0123456789ab_g2]]" {
			t.Errorf("gold reads %s", got)
		}
	}
}

// An entity that the new generation does not have keeps its view until the old one goes.
func TestAnEntityThatIsNoLongerDeclaredGoesWithItsGeneration(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t)}
	first, second := build(t, cfg, 1, "old", orders, lines), build(t, cfg, 2, "new", orders)
	if err := second.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, cfg.URL)
	if got := one[string](t, conn, `SELECT o.status || l.status FROM silver."order" o, silver.line l`); got != "newold" {
		t.Errorf("readers see %s", got)
	}
	run(t, conn, "CREATE VIEW public.others AS SELECT * FROM silver.line")
	if err := first.Remove(context.Background()); err == nil || !strings.Contains(err.Error(), "depends on it") {
		t.Errorf("remove below somebody's view: %v", err)
	}
	if got := one[string](t, conn, `SELECT o.status || l.status FROM silver."order" o, public.others l`); got != "newold" {
		t.Errorf("after the refused removal readers see %s", got)
	}
	run(t, conn, "DROP VIEW public.others")
	if err := first.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, conn, `SELECT status || coalesce(to_regclass('silver.line')::text, ' alone') FROM silver."order"`); got != "new alone" {
		t.Errorf("readers see %s", got)
	}
	openAt(t, Config{URL: cfg.URL, Generation: 2, Projections: []fold.Projection{orders}})
}

// Promise 8: a connection that is cut while serving or removing changes nothing, and it goes on.
func TestPromise8ACutConnectionChangesNothing(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t)}
	first, second := build(t, cfg, 1, "old", orders), build(t, cfg, 2, "new", orders)
	cut := func(w *Warehouse, point string) {
		w.hook = func(at string) error {
			if at == point {
				w.hook = nil
				conn := connect(t, cfg.URL)
				run(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
				until(t, conn, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
			}
			return nil
		}
	}
	sees := func(want string) {
		t.Helper()
		if got := one[string](t, connect(t, cfg.URL), `SELECT status || (SELECT count(*) FROM bronze.events) FROM silver."order"`); got != want {
			t.Errorf("readers see %s, want %s", got, want)
		}
	}
	cut(second, "within serving")
	if err := second.Serve(context.Background()); err == nil || consumers.Classify(err) != consumers.Transient {
		t.Errorf("serve, cut: %v", err)
	}
	sees("old1")
	if err := second.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	sees("new1")
	cut(first, "within removing")
	if err := first.Remove(context.Background()); err == nil || consumers.Classify(err) != consumers.Transient {
		t.Errorf("remove, cut: %v", err)
	}
	c, err := first.Claim(context.Background(), tp0)
	for err != nil && consumers.Classify(err) == consumers.Transient { // connections of the pool were cut as well
		c, err = first.Claim(context.Background(), tp0)
	}
	if err != nil || c.Next != 1 {
		t.Errorf("the generation that was not removed goes on at %d: %v", c.Next, err)
	}
	if err := first.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	sees("new1")
}
