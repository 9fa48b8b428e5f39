package faults

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// Promise 5: A stranger's long transaction delays only its own events. One holds an old snapshot, one has an id and does nothing, one
// has written events and does nothing: the stream goes on, over a crash of the relay as well, and late events come once and in order.
func TestPromise5LongTransactionsDelayNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20", "cursor_interval: 50ms"}})
	r := w.start("relay")
	r.until("to lead", leads)
	snapshot, err := w.connect().BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	w.mustRun(snapshot, `select count(*) from outbox.event`)
	idle, _ := w.open("idle", 0)
	w.mustRun(idle, `select pg_current_xact_id()`)
	late, events := w.open("late", 3)
	taken, _ := w.open("taken back", 3)

	w.write(3, 60)
	r.until("to publish past them", published(w.log.events()))
	w.verify()
	r.process.Kill(t)
	w.write(3, 60)
	r = w.start("next")
	r.until("to publish past them", published(w.log.events()))
	w.verify()

	w.log.add(events, late.Commit(t.Context()))
	r.until("to publish what came late", published(w.log.events()))
	if err := taken.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"late", "idle", "taken back"} {
		w.emit(key)
	}
	r.until("to publish what followed", published(w.log.events()))
	w.mustRun(idle, `commit`)
	w.mustRun(snapshot, `commit`)
	w.write(3, 20)
	w.finish()
}

// Promise 5, for a prepared transaction: it stays for long, over a crash of the relay and one of PostgreSQL. Only its own events are
// late; they come once, in order, when somebody commits it, and never if somebody takes it back.
func TestPromise5APreparedTransactionDelaysOnlyItsOwnEvents(t *testing.T) {
	t.Parallel()
	server := privatePostgres(t)
	w := newWorld(t, setup{postgres: server.Database(t).DSN, mortal: true, outbox: []string{"page_size: 20", "cursor_interval: 50ms"}})
	r := w.start("relay")
	w.emit("prepared")
	r.until("to lead", published(1))
	kept, events := w.open("prepared", 45)
	w.mustRun(kept, `prepare transaction 'kept'`)
	taken, _ := w.open("taken back", 45)
	w.mustRun(taken, `prepare transaction 'taken back'`)

	w.write(3, 60)
	r.until("to publish past them", published(w.log.events()))
	w.verify()
	r.process.Kill(t)
	w.write(3, 30)
	r = w.start("next")
	r.until("to publish past them", published(w.log.events()))
	server.CrashStop(t)
	server.Start(t)
	w.write(3, 30)
	w.settle()
	r.until("to publish past them", published(w.log.events()))
	w.verify()

	w.exec(`commit prepared 'kept'`)
	w.log.add(events, nil)
	w.emit("prepared")
	r.until("to publish what came late", published(w.log.events()))
	w.exec(`rollback prepared 'taken back'`)
	w.emit("taken back")
	w.write(3, 20)
	w.finish()
}
