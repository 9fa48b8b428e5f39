package rebuild

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// Promise 8: a report that reads PostgreSQL for long, in one transaction, sees what it saw, and everybody else what comes: the swap waits for it before anything is fenced, and says so; a rollback does too.
func TestPromise8_ALongReportKeepsNobodyFromWhatComes(t *testing.T) {
	t.Parallel()
	r := newRig(t, "postgres", "")
	r.fill(800)
	r.start()
	r.ready()
	reader := r.watch()
	report := (&harness.PostgresDB{DSN: r.url}).Conn(t)
	do := func(sql string) {
		t.Helper()
		if _, err := report.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var pid int
	begin := func() {
		t.Helper()
		do("BEGIN ISOLATION LEVEL REPEATABLE READ")
		if err := report.QueryRow(t.Context(), "SELECT pg_backend_pid() FROM (SELECT count(*) FROM pg_class) c").Scan(&pid); err != nil {
			t.Fatal(err)
		}
	}
	sum := func() (n int) {
		t.Helper()
		if err := report.QueryRow(t.Context(), "SELECT sum(n) FROM silver.account").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	waits := func(state rebuild.State) {
		t.Helper()
		told := fmt.Sprintf("pid %d", pid)
		r.until("it waits for the report", func(rec rebuild.Record) bool {
			return rec.Rebuild != nil && rec.Rebuild.State == state && strings.Contains(rec.Rebuild.Reason, told)
		})
		if out := r.ok("rebuild", "status", r.name); !strings.Contains(out, told) {
			t.Errorf("status says\n%s", out)
		}
		r.fill(100)
		r.caughtUp() // what serves is fed
		reader.more()
	}
	begin()
	r.begin()
	waits(rebuild.Verifying)
	if n := sum(); n != 800 {
		t.Errorf("the report sees %d events", n)
	}
	do("COMMIT")
	r.in(rebuild.Soaking)
	r.caughtUp()
	r.followed()

	begin()
	before := sum()
	r.eventually("a rollback is begun", func() error {
		if a := r.say("rebuild", "rollback", r.name, "--detach"); a.code != 0 {
			return fmt.Errorf("%s%s", a.stdout, a.stderr)
		}
		return nil
	})
	waits(rebuild.Soaking)
	if n := sum(); n != before {
		t.Errorf("the report sees %d events, before %d", n, before)
	}
	do("COMMIT")
	r.over("rolled-back")
	r.caughtUp()
	reader.end()
}
