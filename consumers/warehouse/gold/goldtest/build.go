package goldtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/warehouse/gold"
)

const revenue = `/*
about: What each customer has bought.
incremental:
  key: [customer_id]
  from: {silver.order: [customer_id]}
*/
select customer_id, count(*) as orders, sum(total) as revenue
from {{ silver.order }} where customer_id is not null group by customer_id
`

const named_ = `select r.customer_id, c.name, r.revenue
from {{ gold.revenue }} r left join {{ silver.customer }} c on c._key = r.customer_id
`

func ordered(t *testing.T, s *shop) {
	s.customer(t, "c1", "Ada", "Oslo")
	s.order(t, "o1", "c1", "paid", "12.5", noon)
	s.order(t, "o2", "c1", "paid", "0.25", noon)
	// The file that comes first by name reads what the last one makes.
	r := runner(t, s, "a_named.sql", strings.ReplaceAll(named_, "gold.revenue", "gold.z_revenue"), "z_revenue.sql", revenue)
	if got := r.Graph().Models[0].Name; got != "z_revenue" {
		t.Fatalf("%s is built first", got)
	}
	built(t, r, gold.Options{})
	same(t, "gold", rows(t, s.w, "select customer_id, name, revenue from gold.a_named"), "c1|Ada|12.7500")
	for name, st := range status(t, r) {
		if st.State != "fresh" || st.Behind != 0 || st.Build != 1 || st.Rows != 1 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

func halted(t *testing.T, s *shop) {
	tests := "/*\ntests:\n  - range: {column: revenue, min: 0}\n  - not_null: [customer_id]\n*/\n"
	sum := tests + "select customer_id, sum(total) as revenue from {{ silver.order }} group by customer_id"
	r := runner(t, s, "revenue.sql", sum, "named.sql", named_, "top.sql", "select max(revenue) as most from {{ gold.named }}", "other.sql", "select count(*) as n from {{ silver.order }}")
	s.order(t, "o1", "c1", "paid", "12.5", noon)
	built(t, r, gold.Options{})
	s.order(t, "o1", "c1", "paid", "-1", noon)
	s.order(t, "o2", "c2", "paid", "-7", noon)
	s.order(t, "o3", "c3", "paid", "1", noon)
	out := build(t, r, gold.Options{})
	failed := out["revenue"]
	if failed.State != "failed" || len(failed.Tests) != 1 || failed.Tests[0].Rows != 2 || failed.Tests[0].Examples[0] != "revenue=-1.0000, customer_id=c1" {
		t.Errorf("revenue: %+v", failed)
	}
	if !strings.HasSuffix(failed.Error, "revenue.sql: 2 rows fail range(revenue >= 0)") {
		t.Errorf("the error is %q", failed.Error)
	}
	for _, name := range []string{"named", "top"} {
		if out[name].State != "halted" || out[name].By != "revenue" {
			t.Errorf("%s: %+v", name, out[name])
		}
	}
	if out["other"].State != "built" {
		t.Errorf("what does not read it: %+v", out["other"])
	}
	same(t, "what readers see of it", rows(t, s.w, "select customer_id, revenue from gold.revenue"), "c1|12.5000")
	same(t, "and downstream", rows(t, s.w, "select most from gold.top"), "12.5000")
	st := status(t, r)
	if st["revenue"].State != "failed" || st["revenue"].Since.IsZero() || st["top"].State != "halted" || st["top"].By != "revenue" || !st["top"].Since.Equal(st["revenue"].Since) || st["top"].Behind != 3 {
		t.Errorf("status: %+v", st)
	}
	s.order(t, "o1", "c1", "paid", "2", noon)
	s.order(t, "o2", "c2", "paid", "3", noon)
	built(t, r, gold.Options{})
	same(t, "after the cause was mended", rows(t, s.w, "select most from gold.top"), "3.0000")
	if st := status(t, r)["top"]; st.State != "fresh" {
		t.Errorf("status: %+v", st)
	}
}

func tested(t *testing.T, s *shop) {
	s.customer(t, "c1", "Ada", "Oslo")
	s.order(t, "o1", "c1", "paid", "1", noon)
	s.order(t, "o2", "c1", "paid", "100", noon)
	s.order(t, "o3", "c9", "paid", "50.0001", noon)
	s.order(t, "o4", "", "paid", "50", noon)
	for _, c := range []struct {
		test string
		rows int64
		says string
	}{
		{"not_null: [customer_id]", 1, "customer_id=NULL, _key=o4"},
		{"not_null: [_key, customer_id]", 1, "_key=o4, customer_id=NULL"},
		{"not_null: [_key]", 0, ""},
		{"unique: [customer_id]", 2, "customer_id=c1, _key=o1"},
		{"unique: [_key]", 0, ""},
		{"unique: [_key, customer_id]", 0, ""},
		{"range: {column: total, max: 50}", 2, "total=100.0000, _key=o2"},
		{"range: {column: total, min: 1, max: 50.0001}", 1, "total=100.0000, _key=o2"},
		{"range: {column: total, min: 1.00000000000000000001}", 1, "total=1.0000, _key=o1"},
		{"range: {column: placed, max: 2026-05-01}", 4, "placed="},
		{"range: {column: placed, max: 2026-05-01 12:00:00}", 0, ""},
		{"relationship: {column: customer_id, to: silver.customer, field: _key}", 1, "customer_id=c9, _key=o3"},
	} {
		r := runner(t, s, "tested.sql", "/*\ntests:\n  - "+c.test+"\n*/\nselect _key, customer_id, total, placed from {{ silver.order }}")
		out := build(t, r, gold.Options{Full: true})["tested"]
		if c.rows == 0 {
			if out.State != "built" {
				t.Errorf("%s: %+v", c.test, out)
			}
			continue
		}
		if out.State != "failed" || len(out.Tests) != 1 || out.Tests[0].Rows != c.rows || !strings.HasPrefix(out.Tests[0].Examples[0], c.says) {
			t.Errorf("%s: %+v", c.test, out)
		}
	}
}

func moved(t *testing.T, s *shop) {
	s.customer(t, "c1", "Ada", "Oslo")
	s.order(t, "o1", "c1", "paid", "1", noon)
	files := []string{"revenue.sql", revenue, "named.sql", named_, "cities.sql", "select city, count(*) as n from {{ silver.customer }} group by city", "events.sql", "select count(*) as n from {{ bronze.events }}"}
	r := runner(t, s, files...)
	built(t, r, gold.Options{})
	states := func(want string) {
		t.Helper()
		got := []string{}
		for _, name := range []string{"revenue", "named", "cities", "events"} {
			out, err := r.Build(context.Background(), name, gold.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimSuffix(out.State+":"+out.Mode, ":"))
		}
		same(t, "builds", strings.Join(got, " "), want)
	}
	states("fresh fresh fresh fresh")
	s.order(t, "o2", "c1", "paid", "2", noon)
	if st := status(t, r)["named"]; st.State != "fresh" || st.Behind != 1 {
		t.Errorf("named, whose input is not built yet: %+v", st)
	}
	if st := status(t, r)["revenue"]; st.State != "behind" || st.Behind != 1 {
		t.Errorf("revenue: %+v", st)
	}
	states("built:incremental built:full fresh built:full")
	s.customer(t, "c1", "Ada", "Rome")
	states("fresh built:full built:full built:full")
	// An order that goes into no row: the model has moved, its rows have not, and nothing downstream need be built.
	s.order(t, "o7", "", "paid", "2", noon)
	s.apply(t, "order", "o8", false, nil, nil, nil, nil)
	states("built:full built:full fresh built:full") // a row without a key
	s.apply(t, "order", "o9", false, nil, nil, nil, nil)
	states("built:incremental fresh fresh built:full")
	if st := status(t, r)["named"]; st.State != "fresh" || st.Behind != 0 {
		t.Errorf("named: %+v", st)
	}
	files[1] += "-- changed\n"
	r = runner(t, s, files...)
	states("built:full built:full fresh fresh")
	if out := built(t, r, gold.Options{Full: true})["cities"]; out.State != "built" {
		t.Errorf("asked for in full: %+v", out)
	}
}

func redriven(t *testing.T, s *shop) {
	r := runner(t, s, "revenue.sql", revenue, "n.sql", "select count(*) as n from {{ silver.order }}")
	s.order(t, "o1", "c1", "paid", "1", noon)
	s.quarantine(t, "o2")
	version := s.seq
	s.order(t, "o3", "c1", "paid", "5", noon)
	built(t, r, gold.Options{})
	s.redrive(t, "o2", version, orderRow("c1", "paid", "2", noon)...)
	out := built(t, r, gold.Options{})
	if out["revenue"].Mode != "incremental" || out["n"].State != "built" {
		t.Errorf("after a redrive, which moves no position: %+v", out)
	}
	same(t, "revenue", rows(t, s.w, "select customer_id, orders, revenue from gold.revenue"), "c1|3|8.0000")
	same(t, "n", rows(t, s.w, "select n from gold.n"), "3")
}

func mistakes(t *testing.T, s *shop) {
	s.order(t, "o1", "c1", "paid", "1", noon)
	head := "/*\nabout: three\n*/\n"
	for _, c := range []struct{ name, sql, want string }{
		{"syntax", head + "select 1 as a\nfrom {{ silver.order }} wher\n  x = = 1", ":6: "},
		{"column", head + "select _key,\n  nothing_like_it from {{ silver.order }}", ":5: "},
		{"function", head + "select\n\n  no_such_function(1) as a from {{ silver.order }}", ":6: "},
		{"insert", "insert into {{ silver.order }} select 1", "only statements that read"},
		{"two statements", "select 1 as a from {{ silver.order }}; select 2", ""},
		{"change in a with", "with x as (delete from {{ silver.order }} returning 1) select * from x", ""},
		{"out of the brackets", "select 1 as a from {{ silver.order }}) as q; drop table millrace.positions; --", ""},
		{"without a schema", "select 1 as a from {{ silver.order }}, customer", ""},
		{"test of a column", "/*\ntests: [{not_null: [b]}]\n*/select 1 as a from {{ silver.order }}", "no column b"},
		{"division", "select cast(_key as integer) as a from {{ silver.order }}", "bad.sql"},
		{"test of another type", "/*\ntests: [{range: {column: a, min: many}}]\n*/select 1 as a from {{ silver.order }}", "test range(a >= many)"},
		{"from of another column", "/*\nincremental: {key: [a], from: {silver.order: [nothing]}}\n*/select status as a from {{ silver.order }}", "incremental: from: silver.order: "},
	} {
		out := build(t, runner(t, s, "bad.sql", c.sql), gold.Options{})["bad"]
		if out.State != "failed" || !strings.Contains(out.Error, "bad.sql") || !strings.Contains(out.Error, c.want) {
			t.Errorf("%s: %+v", c.name, out)
		}
	}
	same(t, "the warehouse", rows(t, s.w, "select count(*) from silver.order"), "1")
	r := runner(t, s, "good.sql", "select 1 as a from {{ silver.order }}")
	if _, err := r.Build(context.Background(), "bad", gold.Options{}); !errors.Is(err, gold.ErrNoModel) {
		t.Errorf("got %v", err)
	}
}

func named(t *testing.T, s *shop) {
	s.order(t, "o1", "c1", "paid", "1", noon)
	const odd = `a"; drop table x; --`
	quoted := `"` + strings.ReplaceAll(odd, `"`, `""`) + `"`
	sql := fmt.Sprintf("/*\nincremental: {key: ['%[1]s'], from: {silver.order: [customer_id]}}\ntests:\n  - unique: ['%[1]s']\n  - not_null: ['%[1]s']\n  - range: {column: '%[1]s', max: \"z'; drop\"}\n*/\nselect customer_id as %[2]s, 'it''s {{ no.input }}' as \"select\" -- {{ nor.here }}\nfrom {{ silver.order }}", odd, quoted)
	r := runner(t, s, "odd.sql", sql)
	built(t, r, gold.Options{})
	s.order(t, "o1", "c2", "paid", "1", noon)
	out := built(t, r, gold.Options{})["odd"]
	if out.Mode != "incremental" || out.Keys != 2 {
		t.Errorf("%+v", out)
	}
	same(t, "gold", rows(t, s.w, "select * from gold.odd"), "c2|it's {{ no.input }}")
}

func columns(t *testing.T, s *shop) {
	s.order(t, "o1", "c1", "paid", "1", noon)
	for _, sql := range []string{"_key as a, total as b", "total as b, _key as a", "_key as a", "1 as a", "_key as a, status as c"} {
		r := runner(t, s, "m.sql", "select "+sql+" from {{ silver.order }}")
		built(t, r, gold.Options{})
	}
	same(t, "gold", rows(t, s.w, "select * from gold.m"), "o1|paid")
}

func pruned(t *testing.T, s *shop) {
	s.order(t, "o1", "c1", "paid", "1", noon)
	built(t, runner(t, s, "revenue.sql", revenue, "named.sql", named_), gold.Options{})
	r := runner(t, s, "named.sql", "select 1 as a from {{ silver.order }}")
	if st := status(t, r)["revenue"]; st.State != "undeclared" || st.Rows != 1 {
		t.Errorf("%+v", st)
	}
	gone, err := r.Prune(context.Background())
	if err != nil || len(gone) != 1 || gone[0] != "revenue" {
		t.Errorf("%v, %v", gone, err)
	}
	if st := status(t, r); len(st) != 1 {
		t.Errorf("%+v", st)
	}
	built(t, r, gold.Options{})
	built(t, runner(t, s, "revenue.sql", revenue), gold.Options{}) // its place is free again
}

func retried(t *testing.T, s *shop) {
	s.order(t, "o1", "c1", "paid", "1", noon)
	left := 2
	f := &faulty{Engine: s.Engine, passing: true, commit: func() error {
		if left--; left >= 0 {
			return errStaged
		}
		return nil
	}}
	out := built(t, runner(t, f, "revenue.sql", revenue), gold.Options{})["revenue"]
	if out.State != "built" || left != -1 {
		t.Errorf("%+v, %d tries left", out, left)
	}
	left = 1
	f.exec, f.commit = func(sql string) error { // a model's own mistake is not tried again
		if strings.HasPrefix(sql, "CREATE TABLE") {
			left--
		}
		return nil
	}, nil
	wrong := "/*\ntests: [{not_null: [a]}]\n*/\nselect cast(null as integer) as a from {{ silver.order }}"
	if out := build(t, runner(t, f, "wrong.sql", wrong), gold.Options{})["wrong"]; out.State != "failed" || left != 0 {
		t.Errorf("%+v, %d tries left", out, left)
	}
	left = 2
	f.exec, f.commit = nil, func() error {
		if left--; left >= 0 {
			return errStaged
		}
		return nil
	}
	f.passing = false
	s.order(t, "o2", "c1", "paid", "1", noon)
	r := runner(t, f, "revenue.sql", revenue)
	if _, err := r.Build(context.Background(), "revenue", gold.Options{}); err == nil || left != 0 { // the second one is the record of the first
		t.Errorf("got %v, %d tries left", err, left)
	}
}
