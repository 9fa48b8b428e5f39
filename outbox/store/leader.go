package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// LeaderTimeout is how long a leader's session may be idle before Postgres ends it, and with it the lock. A leader
// touches its session every second.
const LeaderTimeout = 3 * time.Second

// leaderClass is the first half of the lock's key; the second is the hash of the schema's name. Advisory locks are a
// database's, as schemas are.
const leaderClass = 0x6d72 // "mr"

// Leader holds the lock that makes one relay of an outbox the active one. It is for liveness only: safety comes from
// the transactional ids. A leader that is frozen or cut off loses the lock without its help: the kernel would answer
// keepalives for it, but nobody touches its session.
type Leader struct {
	conn   *pgx.Conn
	schema string
	pid    uint32 // the server process that holds the lock
}

// TryLead tries once to take the lock of the outbox in the named database schema, and never waits for it. ok is false
// while another session leads. The connection must be a direct one (not of a transaction pooler) and for this alone:
// from now on its session ends when it has been idle for LeaderTimeout, whether the lock was had or not, so a standby
// tries again within that time, or connects anew.
func TryLead(ctx context.Context, conn *pgx.Conn, schema string) (leader *Leader, ok bool, err error) {
	if _, err := dbtx.Quote(schema); err != nil {
		return nil, false, err
	}
	schema = cmp.Or(schema, dbtx.DefaultSchema)
	// First the timeout: whoever freezes between the two must not keep the lock.
	if _, err := conn.Exec(ctx, fmt.Sprintf(`set idle_session_timeout = %d`, LeaderTimeout.Milliseconds())); err != nil {
		return nil, false, fmt.Errorf("limit the idle time of the leader's session: %w", err)
	}
	l := &Leader{conn: conn, schema: schema}
	err = conn.QueryRow(ctx, `select pg_try_advisory_lock($1::int, hashtext($2::text)), pg_backend_pid()`, leaderClass, schema).Scan(&ok, &l.pid)
	if err != nil {
		return nil, false, fmt.Errorf("try to lead outbox %q: %w", schema, err)
	}
	if !ok {
		return nil, false, nil
	}
	return l, true, nil
}

// Touch keeps the session alive; call it every second, each time with a deadline. Any error means that leadership is
// lost or cannot be told: stop publishing and close the connection. ErrNotLeader: the connection answers, but from a
// session other than the one that took the lock.
func (l *Leader) Touch(ctx context.Context) error {
	var pid uint32
	if err := l.conn.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return fmt.Errorf("touch the session that leads outbox %q: %w", l.schema, err)
	}
	if pid != l.pid {
		return fmt.Errorf("lead outbox %q: %w: the lock was taken by server process %d, process %d answers (is there a transaction pooler in between?)",
			l.schema, ErrNotLeader, l.pid, pid)
	}
	return nil
}

// Resign gives the lock back, so that a standby takes over at once. The connection stays open. ErrNotLeader if the
// session did not hold it.
func (l *Leader) Resign(ctx context.Context) error {
	var held bool
	err := l.conn.QueryRow(ctx, `select pg_advisory_unlock($1::int, hashtext($2::text))`, leaderClass, l.schema).Scan(&held)
	if err != nil {
		return fmt.Errorf("resign from leading outbox %q: %w", l.schema, err)
	}
	if !held {
		return fmt.Errorf("resign from leading outbox %q: %w", l.schema, ErrNotLeader)
	}
	return nil
}
