package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// LeaderTimeout is how long a leader's session may be idle before Postgres ends it and so frees the lock. A leader
// touches its session every second.
const LeaderTimeout = 3 * time.Second

// Leader holds the lock that makes one relay of an outbox the active one. It is for liveness only: safety comes from
// the transactional ids. A leader that is frozen or cut off loses the lock without its help.
type Leader struct {
	conn *pgx.Conn
}

// TryLead tries once to take the lock of the outbox named by schema, never waiting for it. The connection must be a direct one (no
// transaction pooler) and for this alone; its session ends when it is idle for LeaderTimeout, whether or not the lock was had, so that
// a standby tries again within that time or connects anew. ok is false while another session leads.
func TryLead(ctx context.Context, conn *pgx.Conn, schema string) (leader *Leader, ok bool, err error) {
	return nil, false, errNotYet
}

// Touch keeps the session alive; call it every second. Any error means that leadership is lost: stop publishing and close the connection.
// ErrNotLeader if the connection answers but is not the session that took the lock.
func (l *Leader) Touch(ctx context.Context) error { return errNotYet }

// Resign gives the lock back, so that a standby takes over at once. The connection stays open.
func (l *Leader) Resign(ctx context.Context) error { return errNotYet }
