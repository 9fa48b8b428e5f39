package shop

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache/client"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/outbox/outboxtest"
	"github.com/millrace/millrace/schemas"
	domain "github.com/millrace/millrace/schemas/shop"
	"github.com/millrace/millrace/test/harness"
)

func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), harness.Postgres(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	outboxtest.Migrate(t, pool)
	return pool
}

func open(t testing.TB, cfg Config) *Shop {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func declared(t testing.TB) map[string]*projection.Projection {
	t.Helper()
	catalogue, err := schemas.LoadFS(domain.FS)
	if err != nil {
		t.Fatal(err)
	}
	list, err := projection.LoadFS(domain.FS, catalogue, "projections/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*projection.Projection{}
	for _, p := range list {
		out[p.Topic()] = p
	}
	return out
}

// foldAll applies the committed events of the outbox, in the order of their ids, as the sinks will. It returns documents by topic and
// key.
func foldAll(t testing.TB, pool *pgxpool.Pool) (map[string]map[string]map[string]any, map[string]int64) {
	t.Helper()
	projections := declared(t)
	states, counts := map[string]map[string]projection.State{}, map[string]int64{}
	for i, e := range outboxtest.Events(t, pool) {
		if states[e.Topic] == nil {
			states[e.Topic] = map[string]projection.State{}
		}
		ev := consumers.Event{Key: e.Key, Type: e.Type, Seq: int64(i + 1), Time: e.OccurredAt}.WithFields(e.Fields)
		next, err := projections[e.Topic].Fold(states[e.Topic][e.Key], &ev)
		if err != nil {
			t.Fatalf("event %d, %s of %s: %v", i, e.Type, e.Key, err)
		}
		states[e.Topic][e.Key] = next
		counts[e.Topic]++
	}
	docs := map[string]map[string]map[string]any{}
	for topic, byKey := range states {
		docs[topic] = map[string]map[string]any{}
		for key, s := range byKey {
			if s.Exists {
				docs[topic][key] = projection.Document(projections[topic].Columns(), s.Values)
			}
		}
	}
	return docs, counts
}

func TestTheEventsTellWhatTheTablesSay(t *testing.T) {
	t.Parallel()
	pool := database(t)
	s := open(t, Config{Pool: pool, Events: 2500, Workers: 6, Customers: 30, Products: 12, LongTransaction: 30 * time.Millisecond})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	truth, err := s.Truth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	docs, counts := foldAll(t, pool)
	if !reflect.DeepEqual(counts, truth.Events) {
		t.Errorf("events are %v, want %v", counts, truth.Events)
	}
	checkOrders(t, docs["shop.orders"], truth)
	checkCustomers(t, docs["shop.customers"], truth)
	checkProducts(t, docs["shop.products"], truth)

	p := s.Progress()
	if total := counts["shop.orders"] + counts["shop.customers"] + counts["shop.products"]; p.Events != total || total < 2500 || total > 2600 {
		t.Errorf("the shop counts %d events, there are %d", p.Events, total)
	}
	if share := float64(p.RolledBack) / float64(p.Transactions+p.RolledBack); share < 0.04 || share > 0.10 {
		t.Errorf("%d of %d transactions are rolled back", p.RolledBack, p.Transactions+p.RolledBack)
	}
	statuses := map[string]int{}
	for _, o := range truth.Orders {
		statuses[o.Status]++
	}
	for _, status := range []string{"placed", "paid", "shipped", "delivered", "cancelled", "returned"} {
		if statuses[status] == 0 {
			t.Errorf("no order is %s: %v", status, statuses)
		}
	}
	if len(truth.Revenue) < 5 {
		t.Errorf("there is revenue on %d days", len(truth.Revenue))
	}
}

func checkOrders(t *testing.T, docs map[string]map[string]any, truth *Truth) {
	t.Helper()
	if len(docs) != len(truth.Orders) {
		t.Errorf("%d orders, want %d", len(docs), len(truth.Orders))
	}
	revenue := map[string]*big.Rat{}
	for id, want := range truth.Orders {
		d := docs[id]
		lines, _ := d["lines"].([]any)
		var note any
		if want.Note != nil {
			note = *want.Note
		}
		if d["status"] != want.Status || d["total"] != json.Number(want.Total) || d["customer_id"] != want.CustomerID || len(lines) != want.Lines || d["note"] != note {
			t.Errorf("order %s is %v, want %+v", id, d, want)
		}
		if want.Status == "paid" || want.Status == "shipped" || want.Status == "delivered" {
			day := want.PlacedAt.UTC().Format(time.DateOnly)
			total, _ := new(big.Rat).SetString(want.Total)
			if revenue[day] == nil {
				revenue[day] = new(big.Rat)
			}
			revenue[day].Add(revenue[day], total)
		}
	}
	if !slices.IsSortedFunc(truth.Revenue, func(a, b DayRevenue) int { return cmp.Compare(a.Day, b.Day) }) || len(revenue) != len(truth.Revenue) {
		t.Errorf("revenue is of %d days, want %d", len(truth.Revenue), len(revenue))
	}
	for _, d := range truth.Revenue {
		if revenue[d.Day] == nil || revenue[d.Day].FloatString(2) != d.Total {
			t.Errorf("revenue of %s is %s, want %v", d.Day, d.Total, revenue[d.Day])
		}
	}
}

func checkCustomers(t *testing.T, docs map[string]map[string]any, truth *Truth) {
	t.Helper()
	if len(docs) != len(truth.Customers) {
		t.Errorf("%d customers, want %d", len(docs), len(truth.Customers))
	}
	for id, want := range truth.Customers {
		if d := docs[id]; d["name"] != want.Name || d["city"] != want.City || d["email"] != want.Email {
			t.Errorf("customer %s is %v, want %+v", id, d, want)
		}
	}
}

func checkProducts(t *testing.T, docs map[string]map[string]any, truth *Truth) {
	t.Helper()
	if len(docs) != len(truth.Products) {
		t.Errorf("%d products, want %d", len(docs), len(truth.Products))
	}
	for id, want := range truth.Products {
		if d := docs[id]; d["price"] != json.Number(want.Price) || d["row_version"] != want.RowVersion || d["name"] != want.Name {
			t.Errorf("product %s is %v, want %+v", id, d, want)
		}
	}
}

func TestASecondRunGoesOnWithTheTables(t *testing.T) {
	t.Parallel()
	pool := database(t)
	cfg := Config{Pool: pool, Schema: "other shop", Events: 300, Workers: 3, Customers: 10, Products: 5}
	for run := range 2 {
		s := open(t, cfg)
		if run == 1 && s.Progress().Events != 0 {
			t.Errorf("the second run registers and lists %d times", s.Progress().Events)
		}
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		truth, err := s.Truth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		docs, _ := foldAll(t, pool)
		checkOrders(t, docs["shop.orders"], truth)
		checkProducts(t, docs["shop.products"], truth)
	}
}

func TestRunEndsWithItsContextAndKeepsItsRate(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Pool: database(t), Rate: 200, Workers: 3, Customers: 5, Products: 4})
	before := s.Progress().Events
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	// A second of rate may be made up for at the start.
	if n := s.Progress().Events - before; n == 0 || n > 450 {
		t.Errorf("%d events in a second at 200/s", n)
	}
}

func TestVisitorsNoticeStalePages(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cache, err := client.New(client.Config{URL: harness.Redis(t).URL, Prefix: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	applied := int64(1)
	s := open(t, Config{Pool: database(t), Cache: cache, Customers: 3, Products: 2,
		Applied: func(context.Context, string) (int64, bool, error) { return applied, true, nil }})
	for range 2 {
		if err := s.view(ctx, "p-0000"); err != nil {
			t.Fatal(err)
		}
	}
	if p := s.Progress(); p.Views != 2 || p.Hits != 1 || p.Stale != 0 {
		t.Errorf("two views of an unchanged page: %+v", p)
	}
	if stale, cached, err := s.CheckPages(ctx); err != nil || len(stale) != 0 || cached != 1 {
		t.Errorf("%v of %d pages are stale, %v", stale, cached, err)
	}
	// The price changes, and the cache claims to have been invalidated: the page in it is wrong.
	if _, err := s.cfg.Pool.Exec(ctx, `update shop.product set price = price + 1, row_version = 2 where product_id = 'p-0000'`); err != nil {
		t.Fatal(err)
	}
	applied = 2
	if err := s.view(ctx, "p-0000"); err != nil {
		t.Fatal(err)
	}
	want := []StalePage{{ProductID: "p-0000", Shown: 1, Known: 2}}
	if p := s.Progress(); p.Stale != 1 || !slices.Equal(s.Stale(), want) {
		t.Errorf("a stale page: %+v, %v", p, s.Stale())
	}
	if stale, _, err := s.CheckPages(ctx); err != nil || !slices.Equal(stale, want) {
		t.Errorf("%v are stale, %v", stale, err)
	}
}

func TestAppliedByReadsTheRowVersionOfAState(t *testing.T) {
	p := declared(t)["shop.products"]
	values := make([]any, len(p.Columns()))
	for i, c := range p.Columns() {
		if c.Name == "row_version" {
			values[i] = int64(7)
		}
	}
	applied := AppliedBy(func(_ context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
		return map[string]fold.Stored{"here": {State: projection.State{Exists: true, Values: values}}, "retired": {Version: 9}}, nil
	}, p.Columns())
	for id, want := range map[string]int64{"here": 7, "retired": 0, "never": 0} {
		version, known, err := applied(t.Context(), id)
		if err != nil || version != want || known != (want > 0) {
			t.Errorf("%s: %d, %v, %v", id, version, known, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	pool := &pgxpool.Pool{}
	for _, cfg := range []Config{{}, {Pool: pool, Events: -1}, {Pool: pool, Rate: -1}, {Pool: pool, Workers: -1}, {Pool: pool, Products: 1}, {Pool: pool, Rollbacks: 1}} {
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
