package goldtest

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// increments are models that follow their inputs row by row. Each has a twin, built in full, that must be equal at any time.
var increments = map[string]string{
	// one row a group
	"sums": `/*
incremental: {key: [customer_id], from: {silver.order: [customer_id]}}
tests: [{unique: [customer_id]}]
*/
select customer_id, count(*) as orders, sum(total) as revenue, max(placed) as last from {{ silver.order }} group by customer_id`,
	// a key of two columns, one an expression
	"days": `/*
incremental: {key: [day, status], from: {silver.order: ["cast(placed as date)", status]}}
*/
select cast(placed as date) as day, status, sum(total) as revenue from {{ silver.order }} group by cast(placed as date), status`,
	// several rows a key, from two inputs that are followed
	"lines": `/*
incremental: {key: [customer_id], from: {silver.order: [customer_id], silver.customer: [_key]}}
*/
select o._key as order_id, o.customer_id, c.name, c.city, o.total from {{ silver.order }} o join {{ silver.customer }} c on c._key = o.customer_id`,
	// an input that is not followed: built in full when it moves
	"cities": `/*
incremental: {key: [_key], from: {silver.order: [_key]}}
*/
select o._key, c.city, o.status from {{ silver.order }} o left join {{ silver.customer }} c on c._key = o.customer_id where o.status <> 'shipped'`,
}

func histories(t *testing.T, s *shop) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var files, twins []string
	for name, sql := range increments {
		_, body, _ := strings.Cut(sql, "*/")
		files = append(files, name+".sql", sql)
		twins = append(twins, name+"_full.sql", body)
	}
	r, full := runner(t, s, files...), runner(t, s, twins...)
	modes := map[string]int{}
	for range 12 {
		for range rnd.IntN(12) {
			s.step(t, rnd)
		}
		if rnd.IntN(3) == 0 {
			s.quarantine(t, "o99")
			s.redrive(t, "o99", s.seq, orderRow("c1", "paid", "3", noon)...)
		}
		for name := range increments {
			if rnd.IntN(4) == 0 {
				continue // it has to catch up with more than one round
			}
			out, err := r.Build(context.Background(), name, gold.Options{})
			if err != nil || out.State == "failed" {
				t.Fatalf("seed %d: %s: %+v, %v", seed, name, out, err)
			}
			modes[out.Mode]++
			if out, err := full.Build(context.Background(), name+"_full", gold.Options{Full: true}); err != nil || out.State != "built" {
				t.Fatalf("seed %d: %+v, %v", seed, out, err)
			}
			equal(t, s, name, seed)
		}
		if t.Failed() {
			return
		}
	}
	if modes["incremental"] < 5 {
		t.Errorf("seed %d: too few builds were incremental: %v", seed, modes)
	}
}

func equal(t testing.TB, s *shop, name string, seed uint64) {
	t.Helper()
	all := func(table string) string {
		return rows(t, s.w, "select * from (select * from gold."+table+") t order by "+map[string]string{"sums": "1", "days": "1, 2", "lines": "1", "cities": "1"}[name])
	}
	if got, want := all(name), all(name+"_full"); got != want {
		t.Errorf("seed %d: %s, step by step:\n%s\nin full:\n%s", seed, name, got, want)
	}
}

func wrongKeys(t *testing.T, s *shop) {
	r := runner(t, s, "m.sql", "/*\nincremental: {key: [customer_id], from: {silver.order: [status]}}\n*/\nselect customer_id, status from {{ silver.order }}")
	s.order(t, "o1", "c1", "paid", "1", noon)
	built(t, r, gold.Options{})
	s.order(t, "o2", "c2", "paid", "1", noon)
	out := build(t, r, gold.Options{})["m"]
	if out.State != "failed" || !strings.Contains(out.Error, "incremental.from does not say what the SQL does") {
		t.Errorf("%+v", out)
	}
}

// A row that goes on from key to key leaves each of them: what is remembered of it is where it stood last.
func wanders(t *testing.T, s *shop) {
	r := runner(t, s, "sums.sql", increments["sums"])
	for _, customer := range []string{"c1", "c2", "c3"} {
		s.order(t, "o-"+customer, customer, "paid", "10", noon)
	}
	for _, customer := range []string{"c1", "c2", "c3"} {
		s.order(t, "o1", customer, "paid", "1", noon)
		built(t, r, gold.Options{})
	}
	same(t, "revenue", rows(t, s.w, "select customer_id, orders from gold.sums order by 1"), rows(t, s.w,
		"select customer_id, count(*) as orders from silver.order group by customer_id order by 1"))
}
