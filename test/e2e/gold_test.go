package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// modelView is what the tests look at of `gold status -o json` and `gold run -o json`.
type modelView struct {
	Model, State, Mode, By, Error string
	Rows                          int64
	Tests                         []struct {
		Test     string
		Rows     int64
		Examples []string
	}
}

const perCity = `/*
about: How much each city is sent.
incremental:
  key: [city]
  from: {silver.parcel: [city]}
tests:
  - not_null: [city]
  - range: {column: parcels, max: 2}
*/
select city, count(*) as parcels, sum(postage) as postage from {{ silver.parcel }} group by city
`

// Models are built by the sinks that run, and by the commands, on a file and on a server; a test that does not hold halts what is downstream.
func TestGold(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	lake, file := s.name+"-lake", s.name+"-warehouse"
	broker.DeleteAtEnd(t, "__millrace."+lake+".dead-letter", "__millrace."+lake+".control")
	s.write("gold/per_city.sql", perCity)
	s.write("gold/busiest.sql", "select max(parcels) as parcels from {{ gold.per_city }}\n")
	s.edit("millrace.yaml", "path: data/warehouse.duckdb,", "path: data/warehouse.duckdb, gold: {models: gold, interval: 200ms},")
	s.edit("millrace.yaml", "http:", fmt.Sprintf("  %s: {kind: postgres, url: \"${DATABASE_URL}\", schema: %s, entities: [parcel], gold: {models: gold, interval: 200ms}}\n\nhttp:", lake, strings.ReplaceAll(lake, "-", "_")))
	s.setUp()
	conn := db.Conn(t)

	s.write("gold/wrong.sql", "select 1 as a\nfrom {{ gold.nothing }}\n")
	if err := s.fails(2, "config", "check"); !strings.Contains(err, "wrong.sql:2: there is no gold.nothing") || !strings.Contains(err, "gold.models") {
		t.Errorf("a model that reads nothing: %s", err)
	}
	s.write("gold/wrong.sql", "select 1 as a from {{ silver.depot }}\n") // which the lake does not keep
	if err := s.fails(2, "gold", "graph", "--sink", lake); !strings.Contains(err, "wrong.sql:1: there is no silver.depot: the sink keeps parcel") {
		t.Errorf("an entity of another sink: %s", err)
	}
	s.remove("gold/wrong.sql")
	if out := s.ok("gold", "graph", "--sink", lake); !strings.Contains(out, "per_city") || strings.Index(out, "busiest") < strings.Index(out, "per_city") {
		t.Errorf("the graph:\n%s", out)
	}
	if err := s.fails(2, "gold", "status"); !strings.Contains(err, "--sink") {
		t.Errorf("of two sinks: %s", err)
	}
	for sink, want := range map[string]string{lake: "its sink makes them", file: "its sink makes it"} {
		if err := s.fails(1, "gold", "status", "--sink", sink); !strings.Contains(err, want) {
			t.Errorf("before anything ran, %s: %s", sink, err)
		}
	}

	up := s.start("up")
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	emit(t, conn, "post.ParcelAccepted", accepted("p2", "Bremen"))
	emit(t, conn, "post.ParcelAccepted", accepted("p3", "Oslo"))
	for _, sink := range []string{lake, file} {
		s.waitModels(sink, "fresh fresh", 2)
	}
	var postage string
	query := fmt.Sprintf("select postage::text from %s_gold.per_city where city = 'Bremen'", strings.ReplaceAll(lake, "-", "_"))
	if err := conn.QueryRow(context.Background(), query).Scan(&postage); err != nil || postage != "11.98" {
		t.Errorf("the lake has %q, %v", postage, err)
	}
	if a := asJSON[struct{ Rows [][]any }](s, "sql", "select p.city, p.postage, b.parcels from gold.per_city p, gold.busiest b order by 1", "--sink", file); fmt.Sprint(a.Rows) != "[[Bremen 11.98 2] [Oslo 5.99 2]]" {
		t.Errorf("the file has %v", a.Rows)
	}
	emit(t, conn, "post.ParcelAccepted", accepted("p4", "Bremen"))
	for _, sink := range []string{lake, file} {
		s.waitModels(sink, "failed halted", 2)
		eventually(t, "/readyz and the metric of "+sink, func() bool {
			return strings.Contains(s.get("/readyz"), "sink "+sink+": ok (gold is old: per_city failed, busiest halted: millrace gold status)") &&
				strings.Contains(s.get("/metrics"), fmt.Sprintf("millrace_gold_stopped{model=\"busiest\",sink=%q} 1\n", sink))
		})
		r := s.run("gold", "status", "--sink", sink)
		if r.code != 1 || !strings.Contains(r.stdout, "1 row fails range(parcels <= 2)") || !strings.Contains(r.stdout, "parcels=3, city=Bremen") || !strings.Contains(r.stdout, "halted by per_city since") {
			t.Errorf("%s: status %d\n%s%s", sink, r.code, r.stdout, r.stderr)
		}
		r = s.run("gold", "run", "--sink", sink)
		if r.code != 1 || !strings.Contains(r.stdout, "per_city: failed:") || !strings.Contains(r.stdout, "busiest: halted by per_city") {
			t.Errorf("run, %s: status %d\n%s%s", sink, r.code, r.stdout, r.stderr)
		}
	}
	up.Stop(t, patience)

	// Nothing runs: the file is opened here.
	s.edit("gold/per_city.sql", "max: 2", "max: 3")
	for _, sink := range []string{lake, file} {
		if out := s.ok("gold", "run", "busiest", "--sink", sink); !strings.Contains(out, "per_city: built (full: its file has changed), 2 rows") || !strings.Contains(out, "busiest: built") {
			t.Errorf("%s: %s", sink, out)
		}
		all := asJSON[[]modelView](s, "gold", "run", "--sink", sink)
		if len(all) != 2 || all[0].State != "fresh" || all[1].State != "fresh" {
			t.Errorf("%s: %+v", sink, all)
		}
		if out := s.ok("gold", "run", "--full", "per_city", "--sink", sink); !strings.Contains(out, "(full: it was asked for)") {
			t.Errorf("%s: %s", sink, out)
		}
	}
	s.remove("gold/busiest.sql")
	if out := s.ok("gold", "status", "--sink", file); !strings.Contains(out, "undeclared") {
		t.Errorf("a model whose file is gone:\n%s", out)
	}
	if out := s.ok("gold", "run", "--prune", "--sink", file); !strings.Contains(out, "busiest") {
		t.Errorf("prune: %s", out)
	}
	if err := s.fails(2, "gold", "run", "busiest", "--sink", file); !strings.Contains(err, `there is no model "busiest"`) {
		t.Errorf("a model that is none: %s", err)
	}
}

// waitModels waits until the models of a sink are in the given states, the first built of so many rows.
func (s *site) waitModels(sink, states string, rows int64) {
	s.t.Helper()
	var all []modelView
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the models of %s: %+v", sink, all)
		}
	}()
	eventually(s.t, sink+" is "+states, func() bool {
		r := s.run("gold", "status", "--sink", sink, "-o", "json")
		if !strings.HasPrefix(r.stdout, "[") {
			return false
		}
		all = asJSON[[]modelView](s, "gold", "status", "--sink", sink)
		var got []string
		for _, m := range all {
			got = append(got, m.State)
		}
		return strings.Join(got, " ") == states && all[0].Rows == rows
	})
}

func (s *site) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}
