package faults

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// An administrator limits what statements, locks and idle sessions of the relay's role may take, as for applications. Polls that
// wait behind a lock, and sessions that wait for Kafka, take longer: the relay works all the same, and does not start over again and
// again.
func TestTimeoutsOfTheRole(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	w := newWorld(t, setup{postgres: db.DSN, outbox: []string{"page_size: 20"}})
	role := w.role(map[string]string{
		"statement_timeout": "100ms", "lock_timeout": "50ms", "idle_session_timeout": "300ms", "idle_in_transaction_session_timeout": "300ms",
	})
	w.dsn = as(t, w.dsn, role)
	r := w.start("relay")
	w.write(2, 20)
	r.until("to publish", published(w.log.events()))
	before := r.ask().Restarts

	lock, _ := w.open("other", 0)
	w.mustRun(lock, `lock table outbox.event in access exclusive mode`)
	eventually(t, "a poll to wait behind the lock for longer than the role may", func() (bool, string) {
		var waits bool
		err := w.pool.QueryRow(t.Context(), `select exists (select from pg_stat_activity where application_name = $1
			and wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '1 second')`, "millrace relay "+w.name+" poll").Scan(&waits)
		return err == nil && waits, fmt.Sprintf("%+v", r.ask())
	})
	w.mustRun(lock, `rollback`)
	w.emit("k")
	r.until("to publish", published(w.log.events()))

	end := w.kafka.toxic("latency", downstream, map[string]any{"latency": 400}) // the session that polls is idle meanwhile
	for range 2 {
		w.emit("k")
		r.until("to publish slowly", published(w.log.events()))
	}
	end()
	if now := r.ask().Restarts; now != before {
		t.Errorf("it started over %d times for timeouts that are meant for others", now-before)
	}
	w.finish()
}

// role makes a role of this test that may do everything, with settings of its own.
func (w *world) role(settings map[string]string) string {
	w.t.Helper()
	name := harness.Unique("faults")
	w.exec(fmt.Sprintf(`create role %q superuser login`, name))
	w.t.Cleanup(func() { w.exec(fmt.Sprintf(`drop role %q`, name)) })
	for setting, value := range settings {
		w.exec(fmt.Sprintf(`alter role %q set %s = '%s'`, name, setting, value))
	}
	return name
}
