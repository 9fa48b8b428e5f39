package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Blocked is a session that waits for a lock, and one of those that hold it or were there before.
type Blocked struct {
	// Application is what the waiting session calls itself, For how long it waits, Lock what for: a relation's name, or a kind of lock.
	Application string
	For         time.Duration
	Lock        string
	// PID is the server process of the other; 0 for a prepared transaction. By, User and State are what it calls itself, who it is and
	// what it does, as far as the role may see that.
	PID             uint32
	By, User, State string
}

func (b *Blocked) String() string {
	holder := "a prepared transaction"
	if b.PID != 0 {
		holder = fmt.Sprintf("session %d (%s)", b.PID, describe(b))
	}
	return fmt.Sprintf("%s has waited for a lock on %s for %v, which %s holds or waited for before", b.Application, b.Lock, b.For.Round(time.Second), holder)
}

func describe(b *Blocked) string {
	text := "user " + b.User
	if b.By != "" {
		text += ", application " + fmt.Sprintf("%.63q", b.By)
	}
	if b.State != "" {
		text += ", " + b.State
	}
	return text
}

const blockedQuery = `
select w.application_name, extract(epoch from clock_timestamp() - l.waitstart)::float8,
	coalesce(l.relation::regclass::text, l.locktype), other.pid, coalesce(b.application_name, ''), coalesce(b.usename, ''), coalesce(b.state, '')
from pg_locks l
join pg_stat_activity w on w.pid = l.pid and w.usename = current_user and w.datname = current_database()
	and starts_with(w.application_name, left($1::text, 63))
cross join lateral unnest(pg_blocking_pids(l.pid)) other(pid)
left join pg_stat_activity b on b.pid = other.pid
where not l.granted and l.waitstart < clock_timestamp() - make_interval(secs => $2::float8)
order by l.waitstart, b.xact_start nulls last limit 1`

// LookBlocked returns the session that has waited longest for a lock, of those of this role and database whose application names begin so
// and that have waited for some time; nil if none has.
func LookBlocked(ctx context.Context, conn *pgx.Conn, application string, waited time.Duration) (*Blocked, error) {
	var b Blocked
	var seconds float64
	var pid int64
	err := conn.QueryRow(ctx, blockedQuery, application, waited.Seconds()).
		Scan(&b.Application, &seconds, &b.Lock, &pid, &b.By, &b.User, &b.State)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	b.For, b.PID = time.Duration(seconds*float64(time.Second)), uint32(pid)
	return &b, wrapped(err, "look for sessions that wait for a lock")
}
