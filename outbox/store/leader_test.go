package store

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/outbox/migrate"
)

func TestOneLeader(t *testing.T) {
	db, conn := newOutbox(t)
	if _, err := migrate.Up(t.Context(), conn, migrate.WithSchema("other")); err != nil {
		t.Fatal(err)
	}
	first, ok, err := TryLead(t.Context(), db.Conn(t), "")
	if err != nil || !ok {
		t.Fatalf("the first does not lead: %v", err)
	}
	second := db.Conn(t)
	if l, ok, err := TryLead(t.Context(), second, "outbox"); err != nil || ok || l != nil {
		t.Fatalf("two lead one outbox: %v", err)
	}
	if _, ok, err := TryLead(t.Context(), db.Conn(t), "other"); err != nil || !ok {
		t.Fatalf("another outbox of the same database has no leader of its own: %v", err)
	}
	if err := first.Touch(t.Context()); err != nil {
		t.Error(err)
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if err := first.Resign(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("resigned twice: %v", err)
	}
	if _, ok, err := TryLead(t.Context(), second, "outbox"); err != nil || !ok {
		t.Errorf("the second does not take over: %v", err)
	}
}

// A leader that does not touch its session loses the lock without its help; one that does keeps it.
func TestLeaderThatFreezesLosesTheLock(t *testing.T) {
	t.Parallel()
	db, conn := newOutbox(t)
	l, ok, err := TryLead(t.Context(), db.Conn(t), "")
	if err != nil || !ok {
		t.Fatalf("not leading: %v", err)
	}
	for start := time.Now(); time.Since(start) < LeaderTimeout+time.Second; {
		<-time.After(200 * time.Millisecond)
		if err := l.Touch(t.Context()); err != nil {
			t.Fatalf("lost the lock in spite of touching: %v", err)
		}
	}
	frozen := time.Now()
	// Waiting for the lock is for this test alone: it returns when Postgres has ended the leader's session.
	exec(t, conn, `select pg_advisory_lock($1::int, hashtext('outbox'))`, leaderClass)
	if after := time.Since(frozen); after < LeaderTimeout-time.Second || after > LeaderTimeout+10*time.Second {
		t.Errorf("the lock was free after %v, want about %v", after, LeaderTimeout)
	}
	if err := l.Touch(t.Context()); err == nil {
		t.Error("a leader that lost its session still leads")
	}
}

// Behind a transaction pooler another server process answers than the one that holds the lock.
func TestLeaderBehindAPooler(t *testing.T) {
	db, _ := newOutbox(t)
	l, ok, err := TryLead(t.Context(), db.Conn(t), "")
	if err != nil || !ok {
		t.Fatalf("not leading: %v", err)
	}
	l.conn = db.Conn(t)
	if err := l.Touch(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v, want ErrNotLeader", err)
	}
}

func TestStarted(t *testing.T) {
	_, conn := newOutbox(t)
	if _, ok, err := Started(t.Context(), conn, ""); err != nil || ok {
		t.Fatalf("started before the start: %v", err)
	}
	first := First{ClusterID: "cluster", CursorTopicID: "topic"}
	for range 2 {
		if err := MarkStarted(t.Context(), conn, "", first); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok, err := Started(t.Context(), conn, ""); err != nil || !ok || got != first {
		t.Errorf("got %+v, %t, %v", got, ok, err)
	}
	err := MarkStarted(t.Context(), conn, "", First{ClusterID: "cluster", CursorTopicID: "another"})
	if !errors.Is(err, ErrStartedElsewhere) || !NeedsOperator(err) {
		t.Errorf("got %v, want ErrStartedElsewhere", err)
	}
}
