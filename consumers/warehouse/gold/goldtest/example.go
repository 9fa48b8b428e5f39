package goldtest

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/schemas"
)

// Example builds the models of the shop, as they are in the folder of its schemas, from a handful of states.
func Example(t *testing.T, folder string, open Open) {
	catalogue, err := schemas.LoadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	all, err := projection.Load(catalogue, filepath.Join(folder, "projections", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var keep []fold.Projection
	var entities []string
	for _, p := range all {
		keep, entities = append(keep, p), append(entities, p.Entity())
	}
	models, err := gold.Load(filepath.Join(folder, "gold"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := gold.NewGraph(models, entities)
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, keep)
	engine, err := w.Gold()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gold.New(gold.Config{Engine: engine, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	put := states(t, w)
	for i, city := range []string{"Oslo", "Oslo", "Rome"} {
		put(keep, "customer", fmt.Sprint("c", i), map[string]any{"name": "n", "city": city})
	}
	order := func(key, customer, status, total string) {
		put(keep, "order", key, map[string]any{"customer_id": customer, "status": status, "total": orderRow("", "", total, noon)[2], "currency": "EUR", "placed_at": noon})
	}
	order("o1", "c0", "paid", "10.10")
	order("o2", "c1", "placed", "20.20")
	order("o3", "c2", "paid", "5")
	built(t, r, gold.Options{})
	same(t, "by city", rows(t, w, "select city, customers, orders, cast(revenue as decimal(20,2)) from gold.city_revenue order by city"), "Oslo|2|2|30.30\nRome|1|1|5.00")
	order("o3", "c0", "paid", "5") // it belongs to another customer now
	order("o2", "c1", "cancelled", "20.20")
	out := built(t, r, gold.Options{})
	if out["customer_revenue"].Mode != "incremental" || out["daily_revenue"].Keys != 1 {
		t.Errorf("%+v", out)
	}
	same(t, "by city", rows(t, w, "select city, customers, orders, cast(revenue as decimal(20,2)) from gold.city_revenue order by city"), "Oslo|1|2|15.10")
	same(t, "by day", rows(t, w, "select orders, cast(revenue as decimal(20,2)) from gold.daily_revenue"), "2|15.10")
}

// states returns a function that commits a state of an entity from the columns that are not null.
func states(t *testing.T, w Warehouse) func(keep []fold.Projection, entity, key string, columns map[string]any) {
	claims := map[string]fold.Claim{}
	version := int64(0)
	return func(keep []fold.Projection, entity, key string, columns map[string]any) {
		t.Helper()
		var p fold.Projection
		for _, one := range keep {
			if one.Entity() == entity {
				p = one
			}
		}
		tp := consumers.TopicPartition{Topic: p.Topic()}
		c, ok := claims[entity]
		if !ok {
			var err error
			if c, err = w.Claim(context.Background(), tp); err != nil {
				t.Fatal(err)
			}
			c.Next = 0
		}
		values := make([]any, len(p.Columns()))
		for i, col := range p.Columns() {
			values[i] = columns[col.Name]
		}
		version++
		change := fold.Change{Key: key, Stored: fold.Stored{State: projection.State{Exists: true, Values: values}, Version: version, Time: noon}}
		err := w.Commit(context.Background(), fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: c.Next, Next: c.Next + 1, Changes: map[string][]fold.Change{entity: {change}}})
		if err != nil {
			t.Fatal(err)
		}
		c.Next++
		claims[entity] = c
	}
}
