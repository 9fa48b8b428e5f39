package rebuild

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// some are the kinds that a test takes: n of them, as the seed says, or all of a full run.
func some(t *testing.T, n int, of ...string) []string {
	rng := rand.New(rand.NewPCG(seed(t), uint64(len(of))))
	if full() {
		return of
	}
	rng.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:min(n, len(of))]
}

// Promise 8: Every sink can be rebuilt while the old one serves. A projection with a changed field is rolled out under load: refused first, with the columns
// that change, then accepted and swapped; and rolled back, where the old generation goes on with its own declaration although the configuration has changed.
// Somebody reads all the time and sees no gap and no step back in time.
func TestPromise8_AChangedFieldIsRolledOutAndRolledBack(t *testing.T) {
	t.Parallel()
	for _, kind := range some(t, 2, kinds...) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, "")
			r.fill(1500)
			r.start()
			r.ready()
			reader := r.watch()
			r.load()
			reader.more()
			r.stop()
			r.declare(newFee)
			r.start()
			reader.more()
			r.caughtUp() // it goes on with the declaration that serves

			if out := r.ok("config", "check"); !strings.Contains(out, "the declaration of account differs from the one that serves: millrace rebuild --plan "+r.name) {
				t.Errorf("config check says\n%s", out)
			}
			r.plans("fee", "redefined")
			table := r.refused("fee", "rebuild", r.name)
			if !strings.Contains(table, "redefined") || !strings.Contains(table, "millrace rebuild accept "+r.name) {
				t.Errorf("the refusal shows\n%s", table)
			}
			rec := r.read()
			if c := rec.Rebuild.Comparison; rec.Serving != 1 || c == nil || c.Equal || !c.Acceptable || len(c.Entities["account"].Changed) != 1 || len(c.Entities["account"].Changed[0].Examples) == 0 {
				t.Errorf("it is refused with\n%s", shown(rec))
			}
			reader.more()

			r.ok("rebuild", "accept", r.name)
			if rec := r.read(); rec.Serving != 2 || rec.Rebuild == nil || rec.Rebuild.State != rebuild.Soaking {
				t.Fatalf("after the swap:\n%s", shown(rec))
			}
			reader.more()
			r.caughtUp()
			if out := r.ok("config", "check"); strings.Contains(out, "differs") {
				t.Errorf("config check says\n%s", out)
			}

			r.ok("rebuild", "rollback", r.name)
			if rec := r.read(); rec.Serving != 1 || rec.Rebuild != nil || rec.Last.Outcome != "rolled-back" || len(rec.Generations) != 1 {
				t.Fatalf("after the rollback:\n%s", shown(rec))
			}
			r.unload()
			r.caughtUp()
			reader.end()
			r.stop()
			r.declare(oldFee)
			r.holds(1, 2)
			r.gone(2)
		})
	}
}

// plans looks at what `rebuild --plan` says of a column.
func (r *rig) plans(column, how string) {
	r.t.Helper()
	var p struct {
		Serving  int
		Recorded bool
		Entities map[string]struct {
			How     string
			Changed []struct{ Column, How string }
		}
		Reaches string
		Events  int64
		Bytes   int64
		Disk    int64
	}
	out := r.ok("rebuild", "--plan", r.name, "-o", "json")
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		r.t.Fatalf("%v in %s", err, out)
	}
	account := p.Entities["account"]
	if !p.Recorded || p.Serving != 1 || account.How != "changed" || len(account.Changed) != 1 || account.Changed[0].Column != column || account.Changed[0].How != how {
		r.t.Errorf("the plan says\n%s", out)
	}
	if p.Reaches != "log" || p.Events < 1500 || p.Bytes <= 0 || p.Disk <= 0 && r.kind != "redis" {
		r.t.Errorf("the plan says that it costs\n%s", out)
	}
	if text := r.ok("rebuild", "--plan", r.name); !strings.Contains(text, column) || !strings.Contains(text, "the log reaches back to the first event") {
		r.t.Errorf("the plan says\n%s", text)
	}
}

// gone makes sure that a generation left nothing behind.
func (r *rig) gone(generation int) {
	r.t.Helper()
	left := ""
	switch r.kind {
	case "duckdb", "bleve":
		for _, name := range []string{fmt.Sprintf("warehouse.g%d.duckdb", generation), fmt.Sprintf("search.g%d", generation)} {
			if _, err := os.Lstat(filepath.Join(r.dir, "data", name)); err == nil {
				left = name
			}
		}
	case "postgres":
		conn := (&harness.PostgresDB{DSN: r.url}).Conn(r.t)
		if err := conn.QueryRow(r.t.Context(), `select coalesce(string_agg(nspname, ' '), '') from pg_namespace where nspname like '%\_g' || $1`, fmt.Sprint(generation)).Scan(&left); err != nil {
			r.t.Fatal(err)
		}
	case "opensearch":
		var rows []struct{ Index string }
		if err := call(r.t.Context(), http.MethodGet, fmt.Sprintf("%s/_cat/indices/%s*-g%d?format=json&expand_wildcards=all", r.url, r.name, generation), nil, &rows); err != nil {
			r.t.Fatal(err)
		}
		for _, row := range rows {
			left += " " + row.Index
		}
	}
	if left != "" {
		r.t.Errorf("generation %d left behind: %s", generation, left)
	}
}
