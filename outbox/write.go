package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Write adds events to a transaction, in their order: all of them or, if it returns an error, none. They are
// published if the transaction commits.
//
// An *EventError (see Refused) means that an event was not acceptable; nothing was sent to the database, and the
// transaction can go on. After any other error the transaction can only be rolled back.
func (o *Outbox) Write(ctx context.Context, tx pgx.Tx, events ...Event) error {
	if tx == nil {
		return errNoTx
	}
	return o.write(ctx, dbtx.Pgx(tx), events)
}

// WriteSQL is Write for database/sql, with any PostgreSQL driver. With GORM, the *sql.Tx is
// tx.Statement.ConnPool.(*sql.Tx) within a transaction; with ent, begin it yourself and build the client on it.
func (o *Outbox) WriteSQL(ctx context.Context, tx *sql.Tx, events ...Event) error {
	if tx == nil {
		return errNoTx
	}
	return o.write(ctx, dbtx.SQL(tx), events)
}

func (o *Outbox) write(ctx context.Context, tx dbtx.Tx, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	start := time.Now()
	// Promise 1: whatever can be wrong with an event is found before the first statement.
	b, err := o.encode(ctx, events)
	if err == nil {
		if err = o.inserter.Insert(ctx, tx, b.rows); err != nil {
			err = fmt.Errorf("insert %d events into the outbox: %w", len(events), err)
		}
	}
	o.observe(ctx, b, err, time.Since(start))
	return err
}

// Observer is told what Write does, for metrics of the application's own. It is called before Write returns, from
// whichever goroutine called Write, and must not block.
type Observer interface {
	// ObserveWrite is called once for every Write of at least one event. The transaction is still open then: what is
	// counted here may yet be rolled back.
	ObserveWrite(ctx context.Context, w WriteInfo)
}

// WriteInfo describes one call of Write.
type WriteInfo struct {
	// Events are the events written; none if there was an error.
	Events []EventInfo
	// Duration is the time Write took, encoding and INSERT together.
	Duration time.Duration
	// Err is what Write returns.
	Err error
}

// EventInfo describes one event written.
type EventInfo struct {
	Type, Topic, Key string
	ID               [16]byte
	// Bytes is the size of the Avro encoding.
	Bytes int
}

func (o *Outbox) observe(ctx context.Context, b *batch, err error, took time.Duration) {
	if o.observer == nil {
		return
	}
	info := WriteInfo{Duration: took, Err: err}
	if err == nil {
		info.Events = make([]EventInfo, len(b.rows))
		for i, r := range b.rows {
			info.Events[i] = EventInfo{Type: r.Type, Topic: r.Topic, Key: r.Key, ID: r.EventID, Bytes: len(r.Payload)}
		}
	}
	o.observer.ObserveWrite(ctx, info)
}
