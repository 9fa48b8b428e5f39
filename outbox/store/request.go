package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// RequestKind is what an operator asks of the relay.
type RequestKind string

const (
	// RequestRelease: publish parked events.
	RequestRelease RequestKind = "release"
	// RequestDiscard: drop parked events.
	RequestDiscard RequestKind = "discard"
	// RequestDrain: say when everything committed before the request is published.
	RequestDrain RequestKind = "drain"
	// RequestPause and RequestResume: say when the pause that was begun, or ended, in the same transaction is in force.
	RequestPause  RequestKind = "pause"
	RequestResume RequestKind = "resume"
)

// Request is a row of the table request that has not been answered.
type Request struct {
	ID   int64
	Kind RequestKind
	// Args say what exactly, in JSON. They are left out for the request that Requests is told to be at hand.
	Args []byte
	// By is who asked, in the words of the command that did; At is when.
	By string
	At time.Time
	// Committed are the transactions that had completed when the request was made.
	Committed Snapshot
}

// Pause says that nothing of the outbox is to be published.
type Pause struct {
	By     string    `json:"by"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Requests is what an operator wants of the relay at one instant.
type Requests struct {
	// Pause is nil while the outbox is not paused.
	Pause *Pause
	// Work is the oldest open request to release, discard or drain; nil if there is none.
	Work *Request
	// Switches are the open requests to pause or resume, at most 64: they are answered once Pause is heeded.
	Switches []int64
}

// LookForRequests reads what is wanted, in one statement. atHand is the id of the request being carried out, 0 for none. An
// error for which NoRequests is true means that the outbox knows no requests.
func LookForRequests(ctx context.Context, conn *pgx.Conn, schema string, atHand int64) (Requests, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return Requests{}, err
	}
	rows, err := conn.Query(ctx, `
		select p.paused_by, p.paused_at, p.reason, r.id, r.kind, r.args, r.requested_by, r.requested_at, r.committed
		from (select) one left join `+quoted+`.pause p on true left join (
			(select id, kind, null::jsonb as args, requested_by, requested_at, committed from `+quoted+`.request
			 where done_at is null and kind in ('pause', 'resume') order by id limit 64)
			union all
			(select id, kind, case when id <> $1::bigint then args end, requested_by, requested_at, committed from `+quoted+`.request
			 where done_at is null and kind not in ('pause', 'resume') order by id limit 1)
		) r on true`, atHand)
	if err != nil {
		return Requests{}, fmt.Errorf("look for requests: %w", err)
	}
	var all Requests
	var row requestRow
	_, err = pgx.ForEachRow(rows, row.targets(), func() error { return row.into(&all) })
	if err != nil {
		return Requests{}, fmt.Errorf("look for requests: %w", err)
	}
	return all, nil
}

// requestRow is a row of LookForRequests: a pause, a request, both or neither.
type requestRow struct {
	pausedBy, reason, kind, by, committed *string
	pausedAt, at                          *time.Time
	id                                    *int64
	args                                  []byte
}

func (r *requestRow) targets() []any {
	return []any{&r.pausedBy, &r.pausedAt, &r.reason, &r.id, &r.kind, &r.args, &r.by, &r.at, &r.committed}
}

func (r *requestRow) into(all *Requests) error {
	if r.pausedBy != nil {
		all.Pause = &Pause{By: *r.pausedBy, Since: r.pausedAt.UTC(), Reason: *r.reason}
	}
	if r.id == nil {
		return nil
	}
	if kind := RequestKind(*r.kind); kind == RequestPause || kind == RequestResume {
		all.Switches = append(all.Switches, *r.id)
		return nil
	}
	committed, err := ParseSnapshot(*r.committed)
	if err != nil {
		return fmt.Errorf("request %d: %w", *r.id, err)
	}
	all.Work = &Request{ID: *r.id, Kind: RequestKind(*r.kind), Args: r.args, By: *r.by, At: r.at.UTC(), Committed: committed}
	return nil
}

// NoRequests reports whether err says that the tables of requests are not there, or may not be used: a relay that is newer
// than its tables, or whose role was not granted the new ones.
func NoRequests(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == undefinedTable || pg.Code == insufficientPrivilege)
}

const (
	undefinedTable        = "42P01"
	insufficientPrivilege = "42501"
)

// Ask puts a request, durably, and returns its id. args is encoded as JSON. A request to pause begins the pause and one to resume
// ends it in the same transaction, whether any relay runs or not.
func Ask(ctx context.Context, conn *pgx.Conn, schema string, kind RequestKind, args any, by, reason string) (id int64, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(args)
	if err != nil {
		return 0, fmt.Errorf("ask the relay to %s: %w", kind, err)
	}
	err = durably(ctx, conn, func(tx pgx.Tx) error {
		switch kind {
		case RequestPause:
			err = pause(ctx, tx, quoted, by, reason)
		case RequestResume:
			_, err = tx.Exec(ctx, `delete from `+quoted+`.pause`)
		}
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `insert into `+quoted+`.request (kind, args, requested_by) values ($1, $2::text::jsonb, $3) returning id`,
			string(kind), string(text), by).Scan(&id)
	})
	if err != nil {
		return 0, fmt.Errorf("ask the relay to %s: %w", kind, err)
	}
	return id, nil
}

// pause keeps the pause that there is: who paused first is who paused.
func pause(ctx context.Context, tx pgx.Tx, quoted, by, reason string) error {
	_, err := tx.Exec(ctx, `insert into `+quoted+`.pause (paused_by, reason) values ($1, $2) on conflict do nothing`, by, reason)
	return err
}

func durably(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local synchronous_commit = local`); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Answer marks a request as done, with a result in JSON. A request that has been answered keeps its answer. With by, the outbox is
// paused in the same transaction.
func Answer(ctx context.Context, conn *pgx.Conn, schema string, id int64, result []byte, by, reason string) error {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return err
	}
	err = durably(ctx, conn, func(tx pgx.Tx) error {
		if by != "" {
			if err := pause(ctx, tx, quoted, by, reason); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `update `+quoted+`.request set done_at = clock_timestamp(), result = $2::text::jsonb
			where id = $1 and done_at is null`, id, string(result))
		return err
	})
	if err != nil {
		return fmt.Errorf("answer request %d: %w", id, err)
	}
	return nil
}

// Report says how far an open request has come, in JSON.
func Report(ctx context.Context, conn *pgx.Conn, schema string, id int64, progress []byte) error {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `update `+quoted+`.request set progress = $2::text::jsonb where id = $1 and done_at is null`, id, string(progress))
	if err != nil {
		return fmt.Errorf("report on request %d: %w", id, err)
	}
	return nil
}

// Asked is how a request stands.
type Asked struct {
	// Done says that it has been answered, with Result; Progress is what was reported before. Both are JSON, nil if there is none.
	Done             bool
	Progress, Result []byte
}

// LookUp reads how a request stands. One that was deleted is an error.
func LookUp(ctx context.Context, conn *pgx.Conn, schema string, id int64) (Asked, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return Asked{}, err
	}
	var a Asked
	err = conn.QueryRow(ctx, `select done_at is not null, progress, result from `+quoted+`.request where id = $1`, id).
		Scan(&a.Done, &a.Progress, &a.Result)
	if err != nil {
		return Asked{}, fmt.Errorf("look up request %d: %w", id, err)
	}
	return a, nil
}
