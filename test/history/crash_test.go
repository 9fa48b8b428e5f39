package history_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/history"
)

// crashStage is a server whose WAL nobody flushes but those who commit synchronously, until it crashes.
type crashStage struct {
	*stage
	server    *harness.PostgresProcess
	writer    *pgx.Conn
	walwriter int
	lostXid   uint64 // the transaction that was rolled back and never reached the disk
}

func newCrashStage(t *testing.T) *crashStage {
	server := quietServer(t)
	s := &crashStage{stage: newStage(t, server), server: server}
	s.writer = s.db.Conn(t)
	return s
}

// prepare commits an ordinary event, lets the follower see it, and freezes the WAL writer.
func (s *crashStage) prepare() {
	s.Helper()
	s.one("k1")
	s.poll()
	s.run(s.writer, `checkpoint`) // from here on the first use of the sequence is WAL of its own, to be lost as well
	s.walwriter = s.server.Backend(s.T, "walwriter")
	s.server.SignalBackend(s.T, s.walwriter, syscall.SIGSTOP)
}

// rollBack writes an event in a transaction that is rolled back: its xid counts as completed from now on.
func (s *crashStage) rollBack() {
	s.Helper()
	tx, err := s.writer.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.write(tx, "k2")
	if err := tx.QueryRow(s.Context(), `select pg_current_xact_id()`).Scan(&s.lostXid); err != nil {
		s.Fatal(err)
	}
	if err := tx.Rollback(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// commitAsync commits an event that everybody sees and no disk holds.
func (s *crashStage) commitAsync() {
	s.Helper()
	s.run(s.writer, `set synchronous_commit = off`)
	s.one("k3")
}

// crash kills the WAL writer; Postgres ends every session, recovers by itself and serves again.
func (s *crashStage) crash() {
	s.Helper()
	s.server.SignalBackend(s.T, s.walwriter, syscall.SIGKILL)
	if _, err := s.writer.Exec(s.Context(), `select pg_sleep(60)`); err == nil {
		s.Fatal("the session survived the crash")
	}
	s.server.Ready(s.T)
	s.writer = s.db.Conn(s.T)
}

// reused commits an event and reports whether it got the lost transaction's id.
func (s *crashStage) reused(key string) bool {
	s.Helper()
	s.one(key)
	var xid uint64
	if err := s.writer.QueryRow(s.Context(), `select xid from outbox.event where key = $1 order by id desc limit 1`, key).Scan(&xid); err != nil {
		s.Fatal(err)
	}
	return xid == s.lostXid
}

func (s *crashStage) one(key string) {
	s.Helper()
	s.run(s.writer, history.InsertCounted, key, []byte{})
}

func (s *crashStage) run(conn *pgx.Conn, sql string, args ...any) {
	s.Helper()
	if _, err := conn.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
}

func (s *crashStage) violations() map[history.Kind]int {
	s.Helper()
	for range 3 {
		s.poll()
	}
	return history.Count(s.ledger.Verify(truth(s.T, s.db)))
}

// Without the flush gate a crash of Postgres loses an event and publishes a ghost: the checker must see both.
func TestCrashWithoutGateIsFoundOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	const tries = 3
	for try := range tries {
		s := newCrashStage(t)
		d := &difference{conn: s.db.Conn(t), ledger: s.ledger}
		s.follower = d
		s.prepare()
		s.rollBack()
		s.commitAsync()
		s.poll()
		s.crash()
		d.conn = s.db.Conn(t)
		if !s.reused("k4") {
			t.Logf("try %d: the transaction id was flushed by somebody; once more", try+1)
			continue
		}
		found := s.violations()
		if found[history.Missing] == 0 || found[history.Ghost] == 0 {
			t.Errorf("the checker found %v, want an event missing and a ghost", found)
		}
		return
	}
	t.Fatalf("not staged in %d tries", tries)
}

// Promise 1: An event is published if and only if its transaction committed durably. Postgres crashes after a poll
// saw a transaction as completed whose end never reached the disk.
func TestCrashOfPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	// The only news is a rollback: there is nothing to publish, nobody forces a flush, and `last` must not move.
	t.Run("rolled back", func(t *testing.T) {
		s := newCrashStage(t)
		s.follower = newRelay(t, s.db, s.ledger)
		s.prepare()
		s.rollBack()
		s.poll()
		s.crash()
		reused := s.reused("k4")
		s.pollAgain()
		if found := s.violations(); len(found) > 0 {
			t.Error(found)
		}
		if !reused {
			t.Error("not staged: the rolled-back transaction's id was not given again")
		}
	})
	// A commit that is not durable was read, and the crash comes before the gate is asked.
	t.Run("before the gate", func(t *testing.T) {
		s := newCrashStage(t)
		r := newRelay(t, s.db, s.ledger)
		s.follower = r
		s.prepare()
		s.rollBack()
		s.commitAsync()
		r.beforeGate = once(s.crash)
		if _, err := r.poll(t.Context()); err == nil {
			t.Error("the gate answered over the crash")
		}
		if !s.reused("k3") { // the application's, again
			t.Error("not staged: the rolled-back transaction's id was not given again")
		}
		if found := s.violations(); len(found) > 0 {
			t.Error(found)
		}
	})
	// The gate forces the flush: what was published is there after the crash.
	t.Run("after the gate", func(t *testing.T) {
		s := newCrashStage(t)
		s.follower = newRelay(t, s.db, s.ledger)
		s.prepare()
		s.rollBack()
		s.commitAsync()
		s.poll()
		if s.ledger.Len() != 2 {
			t.Errorf("%d events published before the crash, want 2", s.ledger.Len())
		}
		s.crash()
		if s.reused("k4") {
			t.Error("a transaction id was given again after the flush")
		}
		s.pollAgain()
		if found := s.violations(); len(found) > 0 {
			t.Error(found)
		}
	})
}

// pollAgain polls on a connection that the crash has broken: the error is the follower's to recover from.
func (s *crashStage) pollAgain() {
	s.Helper()
	if _, err := s.follower.poll(s.Context()); err == nil {
		s.Error("the follower's session survived the crash")
	}
}

// Random histories over crashes of Postgres: what the tables hold after recovery is the truth, not what a client was
// told.
func TestRandomHistoryWithCrashes(t *testing.T) {
	crashes := 6
	if testing.Short() {
		crashes = 1
	}
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 1<<33))
	server := quietServer(t)
	db := newOutbox(t, server)
	r := newRelay(t, db, history.NewLedger())
	r.rng, r.restarts, r.limit = rng, 2, func() int { return 1 + rng.IntN(60) }
	for range crashes {
		ctx, cancel := context.WithCancel(t.Context())
		w := &history.Workload{DSN: db.DSN, Seed: rng.Uint64(), Writers: 20, Keys: keys, Commits: 1 << 40}
		stopped := make(chan error, 1)
		go func() { stopped <- w.Run(ctx) }()
		follow(ctx, t, r, time.Duration(300+rng.IntN(700))*time.Millisecond)
		walwriter := server.Backend(t, "walwriter")
		server.SignalBackend(t, walwriter, syscall.SIGSTOP)
		follow(ctx, t, r, time.Duration(rng.IntN(150))*time.Millisecond)
		server.SignalBackend(t, walwriter, syscall.SIGKILL)
		if err := <-stopped; err == nil {
			t.Fatal("the writers survived the crash")
		}
		cancel()
		server.Ready(t)
	}
	r.crash() // its connection, at the latest
	last := &history.Workload{DSN: db.DSN, Seed: rng.Uint64(), Writers: 20, Keys: keys, Commits: 500}
	if err := last.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for empty := 0; empty < 3; {
		n, err := r.poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			empty++
		}
	}
	verify(t, db, r.ledger)
	t.Logf("%d events over %d crashes; reader started %d times, in mid-window %d times", r.ledger.Len(), crashes, r.started, r.resumed)
}

// follow polls for a while, whatever the polls say. The frozen WAL writer may hold a lock that a flush waits for, so
// a poll is cut off at the end.
func follow(ctx context.Context, t *testing.T, r *relay, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for ctx.Err() == nil {
		n, err := r.poll(ctx)
		if store.NeedsOperator(err) {
			t.Fatalf("a crash was taken for another database: %v", err)
		}
		if n == 0 {
			idle(ctx, time.Millisecond)
		}
	}
}
