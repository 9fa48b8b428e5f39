package failover

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// An older copy of the volume is restored while no relay runs, and has come past the cursor by the time that one does: system, timeline,
// WAL position and transaction ids look as after an ordinary restart, and no event that was published is missing. What gives it away
// are transaction ids that the cursor has seen the end of and that were given again, to a transaction that has written events, or that
// is still at work and may.
func TestOlderVolumeThatHasOvertakenTheCursor(t *testing.T) {
	for name, stage := range map[string]func(w *world) (end func()){
		"events of transactions that had ended": func(w *world) func() {
			w.write(20)
			burn(w.t, w.dsn, 3000)
			return func() {}
		},
		"a transaction at work that had ended": func(w *world) func() {
			tx, err := w.pool.Begin(w.t.Context())
			if err != nil {
				w.t.Fatal(err)
			}
			if _, err := tx.Exec(w.t.Context(), `select pg_current_xact_id()`); err != nil {
				w.t.Fatal(err)
			}
			burn(w.t, w.dsn, 3000)
			return func() {
				if _, err := tx.Exec(w.t.Context(), `insert into outbox.event (topic, key, type, schema_fp, payload)
					select topic, 'late', type, schema_fp, payload from outbox.event order by id limit 1`); err != nil {
					w.t.Fatal(err)
				}
				if err := tx.Commit(w.t.Context()); err != nil {
					w.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
			w := newWorld(t, server.DSN)
			w.cursorEvery = time.Millisecond
			w.write(40)
			w.publishAll()
			server.Stop(t)
			volume := server.CopyVolume(t)
			server.Start(t)
			w.open()
			published, err := relay.Inspect(t.Context(), w.config())
			if err != nil {
				t.Fatal(err)
			}
			burn(t, w.dsn, 1000) // others' transactions, which the cursor moves over
			w.publish(func(s relay.Status) bool { return s.T > published.T })
			xmax, lsn := w.reached()

			server.Stop(t)
			server.RestoreVolume(t, volume)
			server.Start(t)
			w.open()
			end := stage(w)
			if x, l := w.reached(); x <= xmax || l <= lsn {
				t.Fatalf("not staged: transaction %d of %d, WAL at %d of %d", x, xmax, l, lsn)
			}
			w.relay().stopsWith(store.ErrRestored)
			end()

			found, lost := w.reanchor(relay.ReAnchorOptions{})
			w.checkLost(lost, 0, 0)
			if found.Unpublished == 0 {
				t.Errorf("nothing was hidden: %+v", found)
			}
			w.write(20)
			w.publishAll()
			w.check(nil, nil)
			if _, err := relay.ReAnchor(t.Context(), w.config(), relay.ReAnchorOptions{}); !errors.Is(err, relay.ErrNothingToAnchor) {
				t.Errorf("re-anchored again: %v", err)
			}
		})
	}
}

// reached is how far the database has come.
func (w *world) reached() (xmax, lsn int64) {
	w.t.Helper()
	err := w.pool.QueryRow(w.t.Context(), `select pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint`).
		Scan(&xmax, &lsn)
	if err != nil {
		w.t.Fatal(err)
	}
	return xmax, lsn
}
