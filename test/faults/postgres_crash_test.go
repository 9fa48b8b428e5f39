package faults

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/harness"
)

// crash is a world on a server whose WAL, from stopFlushing on, nobody flushes but those who commit synchronously, until it crashes.
// A rolled-back transaction's id was then never on the disk, and is given again.
type crash struct {
	*world
	server    *harness.PostgresProcess
	walwriter int
	lost      uint64 // the id of the transaction that was rolled back
}

func newCrash(t *testing.T, server *harness.PostgresProcess, s setup) *crash {
	t.Helper()
	s.postgres, s.mortal = server.Database(t).DSN, true
	return &crash{world: newWorld(t, s), server: server}
}

// stopFlushing freezes the WAL writer, after a checkpoint: the next use of the sequence is a record of its own, and is lost with
// the rest.
func (c *crash) stopFlushing() {
	c.t.Helper()
	c.exec(`checkpoint`)
	c.walwriter = c.server.Backend(c.t, "walwriter")
	c.server.SignalBackend(c.t, c.walwriter, syscall.SIGSTOP)
}

// lose begins a transaction that is to be rolled back, and writes an event in it.
func (c *crash) lose() pgx.Tx {
	c.t.Helper()
	tx, _ := c.open("rolled back", 1)
	if err := tx.QueryRow(c.t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&c.lost); err != nil {
		c.t.Fatal(err)
	}
	return tx
}

// rollBack writes an event and takes it back: the transaction counts as completed from now on.
func (c *crash) rollBack() { c.t.Helper(); c.mustRun(c.lose(), `rollback`) }

// errUnflushed is what the log is told of a commit that did not wait for the disk: nobody knows whether it lasts.
var errUnflushed = errors.New("committed, not flushed")

// commitAsync commits an event that everybody sees and no disk holds.
func (c *crash) commitAsync(key string) {
	c.t.Helper()
	tx, events := c.open(key, 1)
	c.mustRun(tx, `set local synchronous_commit = off`)
	c.mustRun(tx, `commit`)
	c.log.add(events, errUnflushed)
}

// crash kills the WAL writer; PostgreSQL ends every session, recovers by itself and serves again.
func (c *crash) crash() {
	c.t.Helper()
	witness := c.connect()
	c.server.SignalBackend(c.t, c.walwriter, syscall.SIGKILL)
	if _, err := witness.Exec(c.t.Context(), `select pg_sleep(120)`); err == nil {
		c.t.Fatal("the session survived the crash")
	}
	c.server.Ready(c.t)
	c.pool.Reset()
}

// reused commits an event and says whether it got the id of the transaction that was lost.
func (c *crash) reused(key string) bool {
	c.t.Helper()
	tx, events := c.open(key, 1)
	var xid uint64
	if err := tx.QueryRow(c.t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&xid); err != nil {
		c.t.Fatal(err)
	}
	c.log.add(events, tx.Commit(c.t.Context()))
	return xid == c.lost
}

// Promise 1: An event is published if and only if its transaction committed durably. PostgreSQL crashes after the relay saw
// transactions as completed whose end never reached the disk.
func TestPromise1PostgresCrashesBeforeItsLogIsFlushed(t *testing.T) {
	t.Parallel()
	server := privatePostgres(t)

	// The only news is a rollback: there is nothing to publish, and the cursor must not say that it was seen.
	t.Run("rolled back", func(t *testing.T) {
		c := newCrash(t, server, setup{outbox: []string{"cursor_interval: 1ms"}})
		r := c.start("relay")
		staged := false
		for range 3 {
			c.emit("k")
			r.until("to publish", published(c.log.events()))
			c.stopFlushing()
			c.rollBack()
			c.polls(20)
			if last := c.last(); last.Sees(c.lost) {
				t.Errorf("the cursor is at %s, and so has seen transaction %d, which no disk holds", last, c.lost)
			}
			c.crash()
			staged = c.reused("k") || staged
			r.until("to publish what got the lost transaction's id", published(c.log.events()))
		}
		if !staged {
			t.Error("not staged: the rolled-back transaction's id was not given again")
		}
		c.finish()
	})

	// An event that no disk holds was read, and the crash comes when the relay is about to ask whether it is flushed.
	t.Run("before the gate", func(t *testing.T) {
		c := newCrash(t, server, setup{outbox: []string{"cursor_interval: 1h"}})
		p := c.behindProxy()
		r := c.start("relay")
		c.emit("k")
		r.until("to publish", published(1))
		c.stopFlushing()
		lost := c.lose()
		gate := p.hold(t, containing("pg_current_wal_flush_lsn() end >= $1"))
		c.commitAsync("lost")
		gate.wait(t)
		c.mustRun(lost, `rollback`)
		c.crash()
		gate.release()
		if !c.reused("k") {
			t.Error("not staged: the rolled-back transaction's id was not given again")
		}
		c.settle()
		c.finish()
	})

	// The gate has PostgreSQL flush: what was published is there after the crash.
	t.Run("after the gate", func(t *testing.T) {
		c := newCrash(t, server, setup{outbox: []string{"cursor_interval: 1h"}})
		r := c.start("relay")
		c.emit("k")
		r.until("to publish", published(1))
		c.stopFlushing()
		c.rollBack()
		c.commitAsync("kept")
		r.until("to publish what it had flushed", published(2))
		c.crash()
		if c.reused("k") {
			t.Error("a transaction id was given again after the flush")
		}
		c.settle()
		if n := c.log.events(); n != 3 {
			t.Errorf("%d events are in the table, want 3", n)
		}
		c.finish()
	})
}

// last is the snapshot of the newest committed cursor.
func (w *world) last() store.Snapshot {
	w.t.Helper()
	last, err := store.ParseSnapshot(w.cursor().Last)
	if err != nil {
		w.t.Fatal(err)
	}
	return last
}

// Promise 1, at random: half of the commits do not wait for the disk, and PostgreSQL crashes again and again. What the table holds
// then is the truth.
func TestPromise1RandomCrashesOfPostgresWithCommitsUnflushed(t *testing.T) {
	t.Parallel()
	c := newCrash(t, privatePostgres(t), setup{outbox: []string{"page_size: 20", "cursor_interval: 1ms"}})
	c.lossy = true
	r := c.start("relay")
	stop := c.writing(4, 2*time.Millisecond)
	const crashes = 4
	for range crashes {
		before := r.until("to lead", leads)
		r.until("to be at work", func(s report) bool { return leads(s) && s.T > before.T+10 })
		c.stopFlushing()
		time.Sleep(time.Duration(c.rng.Int64N(int64(300 * time.Millisecond)))) // the moment is to be random
		c.crash()
	}
	stop()
	c.settle()
	c.finish()
	t.Logf("%d events over %d crashes", c.log.events(), crashes)
}

// unflushed has some commits of a lossy world not wait for the disk; it says whether this one does not.
func (w *world) unflushed(tx pgx.Tx, rng *rand.Rand) (bool, error) {
	if !w.lossy || rng.IntN(2) == 0 {
		return false, nil
	}
	_, err := tx.Exec(w.t.Context(), `set local synchronous_commit = off`)
	return true, err
}
