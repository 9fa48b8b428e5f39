package failover

import (
	"maps"
	"syscall"
	"testing"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// Promise 1: the cursor that re-anchoring writes holds nothing that a crash of PostgreSQL could undo, also where no row is to be
// restamped and nobody waits for the disk: while it goes on a transaction with an event is rolled back, nothing but re-anchoring flushes
// the log, and PostgreSQL crashes as soon as the cursor is written. The transaction's id is not given again, to events that the cursor
// would count as published.
func TestPromise1ACrashAfterReanchoringUndoesNothingOfIt(t *testing.T) {
	t.Parallel()
	own := maps.Clone(settings)
	maps.Copy(own, map[string]string{"synchronous_commit": "off", "autovacuum": "off", "bgwriter_lru_maxpages": "0"})
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: own})
	w := newWorld(t, server.DSN)
	w.write(40)
	w.publishAll()

	walwriter, ended := 0, uint64(0)
	found, err := relay.ReAnchor(t.Context(), w.config(), relay.ReAnchorOptions{Force: true, Progress: func(p relay.Progressed) {
		if p.Step == relay.StepUnpublish && walwriter == 0 {
			w.exec(`checkpoint`)
			walwriter = server.Backend(t, "walwriter")
			server.SignalBackend(t, walwriter, syscall.SIGSTOP)
			ended = w.rollBack()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if found.Restamped != 0 || found.Unpublished != 0 || ended == 0 {
		t.Fatalf("not staged: %+v", found)
	}
	witness, err := w.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.SignalBackend(t, walwriter, syscall.SIGKILL)
	if _, err := witness.Exec(t.Context(), `select pg_sleep(120)`); err == nil {
		t.Fatal("the session survived the crash")
	}
	witness.Release()
	server.Ready(t)
	w.open()
	if xid := w.rollBack(); xid <= ended {
		t.Errorf("transaction %d was given again after the crash, the cursor has seen the end of %d", xid, ended)
	}
	w.write(20)
	w.publishAll()
	w.check(nil, nil)
}

// rollBack writes an event and takes it back; it returns the transaction's id.
func (w *world) rollBack() (xid uint64) {
	w.t.Helper()
	tx, err := w.pool.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer tx.Rollback(w.t.Context())
	err = tx.QueryRow(w.t.Context(), `insert into outbox.event (topic, key, type, schema_fp, payload) values ($1, 'k', 'test.Counted',
		'\x00000000000000000000000000000000', '') returning xid::text::bigint`, w.topic).Scan(&xid)
	if err != nil {
		w.t.Fatal(err)
	}
	return xid
}
