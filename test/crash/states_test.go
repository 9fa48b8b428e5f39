package crash

import (
	"fmt"
	"log/slog"
	"math/big"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/shop"
)

// states is what the cache's sink keeps beside the cached values: the state of every entity, for the names of cached values follow
// from it. A state that is wrong is an invalidation that was missed, or will be.
type states struct {
	sink    *redis.Sink
	columns map[string][]projection.Column // by entity
}

func (w *world) openStates(catalogue *schemas.Catalogue) *states {
	w.t.Helper()
	projections, err := projection.Load(catalogue, w.dir+"/projections/*.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	s := &states{columns: map[string][]projection.Column{}}
	var all []fold.Projection
	for _, p := range projections {
		all = append(all, p)
		s.columns[p.Entity()] = p.Columns()
	}
	s.sink, err = redis.Open(redis.Config{URL: w.redis, Prefix: w.cachePrefix(), Projections: all, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.sink.Close() })
	return s
}

// wrongStates compares every state with the application's tables.
func (w *world) wrongStates() (wrong, compared int, example string) {
	w.t.Helper()
	truth, err := shop.ReadTruth(w.t.Context(), w.pool, "shop", "outbox")
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]map[string][]string{"order": {}, "customer": {}, "product": w.retired()}
	for id, o := range truth.Orders {
		want["order"][id] = []string{o.CustomerID, o.Status, o.Total}
	}
	for id, c := range truth.Customers {
		want["customer"][id] = []string{c.Name, c.City}
	}
	for id, p := range truth.Products {
		want["product"][id] = []string{p.Name, p.Price, fmt.Sprint(p.RowVersion)}
	}
	columns := map[string][]string{"order": {"customer_id", "status", "total"}, "customer": {"name", "city"}, "product": {"name", "price", "row_version"}}
	for entity, rows := range want {
		for id, got := range w.loadStates(entity, columns[entity], rows) {
			compared++
			if !slices.Equal(got, rows[id]) {
				wrong++
				example = fmt.Sprintf("; for example %s %s is %q and not %q", entity, id, got, rows[id])
			}
		}
	}
	return wrong, compared, example
}

// retired are the products that no longer exist for the sinks.
func (w *world) retired() map[string][]string {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "select product_id from shop.product where retired_at is not null")
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string][]string{}
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { out[id] = nil; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// loadPage is how many states are asked for at once.
const loadPage = 500

// loadStates returns some columns of the states of keys as text, nil for one that does not exist.
func (w *world) loadStates(entity string, columns []string, keys map[string][]string) map[string][]string {
	w.t.Helper()
	all := make([]string, 0, len(keys))
	for key := range keys {
		all = append(all, key)
	}
	out := map[string][]string{}
	for page := range slices.Chunk(all, loadPage) {
		stored, err := w.states.sink.Load(w.t.Context(), entity, page)
		if err != nil {
			w.t.Fatalf("load the cache's states: %v", err)
		}
		for _, key := range page {
			out[key] = w.states.text(entity, columns, stored[key])
		}
	}
	return out
}

// text writes values as the shop's tables do: amounts have two digits behind the point.
func (s *states) text(entity string, columns []string, state fold.Stored) []string {
	if !state.Exists {
		return nil
	}
	var out []string
	for _, name := range columns {
		v := state.Values[slices.IndexFunc(s.columns[entity], func(c projection.Column) bool { return c.Name == name })]
		if amount, ok := v.(*big.Rat); ok {
			v = amount.FloatString(2)
		}
		out = append(out, fmt.Sprint(v))
	}
	return out
}
