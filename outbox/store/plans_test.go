package store

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// statement is a statement of a poll and arguments for it, as SQL literals.
type statement struct {
	name, sql, args string
}

func statements(r *Reader, last, upper Snapshot) []statement {
	literal := func(xids []uint64) string {
		return "'{" + strings.Trim(strings.ReplaceAll(fmt.Sprint(xids), " ", ","), "[]") + "}'"
	}
	q := r.queries
	live := r.leaves.live(last)
	leaves := strings.Trim(strings.ReplaceAll(fmt.Sprint(live.args()), " ", ", "), "[]")
	page := fmt.Sprintf("200, 100000000, '%d', '%s', 101, 8388608, %s", last.Xmax, upper, leaves)
	return []statement{
		{"open", q.open, fmt.Sprintf("'%d', %s, 101, 8388608, %s, %d", last.Xmax, literal(last.Xip), leaves, live.sequence)},
		{"bounds", q.bounds, fmt.Sprintf("'%d', '%d', '%s', %s, %s", last.Xmax, upper.Xmax, upper, literal(last.Xip), leaves)},
		{"page", q.page, page},
		{"pageLate", q.pageLate, page + ", " + literal(last.Xip) + ", 200"},
		{"verify", q.verify, "200"},
	}
}

// explain returns the plan of a statement as the reader's session makes it.
func explain(t *testing.T, conn *pgx.Conn, s statement, options string) string {
	t.Helper()
	exec(t, conn, `prepare poll as `+s.sql, pgx.QueryExecModeSimpleProtocol)
	defer exec(t, conn, `deallocate poll`, pgx.QueryExecModeSimpleProtocol)
	rows, err := conn.Query(t.Context(), `explain (`+options+`) execute poll(`+s.args+`)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatalf("explain %s: %v", s.name, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("explain %s: %v", s.name, err)
	}
	return strings.Join(lines, "\n")
}

// buffers runs a statement and returns how many pages it touched.
func buffers(t *testing.T, conn *pgx.Conn, s statement) int {
	t.Helper()
	text := explain(t, conn, s, "analyze, buffers, timing off, format json")
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("plan of %s: %v", s.name, err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

var (
	byIDIndex   = regexp.MustCompile(`using event_\d_id_idx`)
	byXidIndex  = regexp.MustCompile(`using event_\d_xid_id_idx`)
	onlyFilters = regexp.MustCompile(`Index (Only )?Scan[^\n]*\n\s*(Filter|->|$)`)
)

// checkPlan fails for a plan that may read more than the window.
func checkPlan(t *testing.T, s statement, plan string) {
	t.Helper()
	wrong := func(what string) { t.Errorf("%s: %s\n%s", s.name, what, plan) }
	for _, node := range []string{"Seq Scan", "Bitmap", "Parallel", "JIT"} {
		if strings.Contains(plan, node) {
			wrong("the plan has a " + node)
		}
	}
	if onlyFilters.MatchString(plan) {
		wrong("an index is walked from its beginning")
	}
	byID, byXid := byIDIndex.MatchString(plan), byXidIndex.MatchString(plan)
	switch s.name {
	case "open", "bounds":
		if byID || !byXid {
			wrong("must be read by (xid, id) alone")
		}
	case "page", "verify":
		if !byID || byXid {
			wrong("must be read by id alone")
		}
	}
	if s.name != "pageLate" && strings.Contains(plan, "Sort\n") || strings.Count(plan, "Sort  ") > 0 && s.name != "pageLate" {
		wrong("the plan sorts")
	}
}

// Guarantee 4: no statistics turn a poll into a sequential scan, or into a walk along the id index.
func TestPlansAreForced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	db, conn := newOutbox(t)
	r := newReader(t, db)
	check := func(t *testing.T) {
		for _, s := range statements(r, Snapshot{5, 9, []uint64{5, 7}}, Snapshot{7, 400000, []uint64{7}}) {
			checkPlan(t, s, explain(t, r.conn, s, "costs off"))
		}
	}
	t.Run("never analyzed", check)
	exec(t, conn, `analyze outbox.event`)
	t.Run("analyzed while empty", check)
	history(t, conn, 20_000)
	t.Run("filled since", check)
	exec(t, conn, `analyze outbox.event`)
	t.Run("analyzed", check)
	exec(t, conn, `update pg_class set reltuples = 1e9, relpages = 1 where relname ~ '^event_.*'`)
	t.Run("statistics that lie", check)
}

// Promise 6, and guarantee 4: an idle poll touches next to nothing, whatever is retained and however
// long some transaction has been open.
func TestIdlePollTouchesNextToNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	const most = 100 // pages of 8 KiB
	db, conn := newOutbox(t)
	r := newReader(t, db)
	exec(t, conn, `analyze outbox.event`)
	history(t, conn, 300_000)

	idle := func(t *testing.T) {
		t.Helper()
		n := most
		for range 3 { // the poll in which xmax passes a writer at work looks at its rows, once
			last := current(t, conn)
			n = min(n, buffers(t, r.conn, statements(r, last, last)[0]))
		}
		t.Logf("%d buffers", n)
		if n >= most {
			t.Errorf("an idle poll touches %d buffers, want fewer than %d", n, most)
		}
	}
	t.Run("300,000 rows retained", idle)
	t.Run("strangers at work", func(t *testing.T) {
		for range 20 {
			exec(t, begin(t, db), `select pg_current_xact_id()`)
		}
		idle(t)
	})
	t.Run("a writer at work for long", func(t *testing.T) {
		writer := begin(t, db)
		fill(t, writer, "open", 20_000)
		idle(t)
		fill(t, writer, "open", 20_000) // and nothing else completes
		idle(t)
	})
	t.Run("a transaction at work that nothing has completed after", func(t *testing.T) {
		for range 50 { // until nobody else on the shared server completes a transaction in between
			writer := begin(t, db)
			last := current(t, conn)
			fill(t, writer, "newest", 20_000)
			n := buffers(t, r.conn, statements(r, last, last)[0])
			quiet := current(t, conn).Xmax == last.Xmax
			exec(t, writer, `rollback`)
			if !quiet {
				continue
			}
			t.Logf("%d buffers", n)
			if n >= most {
				t.Errorf("an idle poll touches %d buffers, want fewer than %d", n, most)
			}
			return
		}
		t.Fatal("the shared server was never quiet")
	})
}

// A page in the middle of a long window touches what it reads, not what lies before or after.
func TestPageTouchesWhatItReads(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	history(t, conn, 20_000)
	last := current(t, conn)
	history(t, conn, 100_000)
	upper := current(t, conn)
	history(t, conn, 20_000)
	w, err := r.Reopen(t.Context(), last, upper)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Page(t.Context(), w, 0, 1); err != nil {
		t.Fatal(err)
	}
	middle := (w.lowest + w.highest) / 2
	const leaves = "0, 1, 2, 3, 4, 5, 6, 7"
	s := statement{"page", r.queries.page, fmt.Sprintf("%d, %d, '%d', '%s', 101, 8388608, %s", middle, w.highest, last.Xmax, upper, leaves)}
	if n := buffers(t, r.conn, s); n > 200 {
		t.Errorf("a page of 100 rows touches %d buffers", n)
	}
	s.args = fmt.Sprintf("%d, %d, '%d', '%s', 101, 8388608, %s", w.highest-5, w.highest, last.Xmax, upper, leaves)
	if n := buffers(t, r.conn, s); n > 100 {
		t.Errorf("the last page touches %d buffers", n)
	}
}

// history writes n events in transactions of a hundred, spread over three leaves of the ring.
func history(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	exec(t, conn, `set synchronous_commit = off`)
	for i := range 3 {
		exec(t, conn, `do $$ begin for i in 1..`+fmt.Sprint(n/300)+` loop
			insert into outbox.event (topic, key, type, schema_fp, payload)
			select 't', 'k' || g % 7, 'x', '\x00000000000000000000000000000000', int8send(g) from generate_series(1, 100) g;
			commit; end loop; end $$`, pgx.QueryExecModeSimpleProtocol)
		if i < 2 {
			exec(t, conn, `select setval('outbox.event_id_seq', (nextval('outbox.event_id_seq') >> 32 << 32) + (1::bigint << 32))`)
		}
	}
}

// current is the snapshot of now.
func current(t *testing.T, conn *pgx.Conn) Snapshot {
	t.Helper()
	var text string
	if err := conn.QueryRow(t.Context(), `select pg_current_snapshot()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	s, err := ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
