package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Session is the database session that holds an outbox's lock.
type Session struct {
	// Application is what the session calls itself, PID its server process.
	Application string `json:"application"`
	PID         uint32 `json:"pid"`
	// Address is where it comes from; empty over a Unix socket, or where the role may not see it.
	Address string `json:"address,omitempty"`
	// Since is when the session began; zero where the role may not see it.
	Since time.Time `json:"since,omitzero"`
}

// WhoLeads returns the session that leads the outbox in the named database schema; nil if none does.
func WhoLeads(ctx context.Context, conn *pgx.Conn, schema string) (*Session, error) {
	if _, err := dbtx.Quote(schema); err != nil {
		return nil, err
	}
	schema = cmp.Or(schema, dbtx.DefaultSchema)
	var s Session
	var since *time.Time
	err := conn.QueryRow(ctx, `
		select coalesce(a.application_name, ''), l.pid, coalesce(host(a.client_addr), ''), a.backend_start
		from pg_locks l left join pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = $1::bigint
			and l.objid::bigint = hashtext($2::text)::bigint & 4294967295
			and l.database = (select oid from pg_database where datname = current_database())`, leaderClass, schema).
		Scan(&s.Application, &s.PID, &s.Address, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask who leads outbox %q: %w", schema, err)
	}
	if since != nil {
		s.Since = since.UTC()
	}
	return &s, nil
}
