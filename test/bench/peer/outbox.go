package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// outbox is a database with an outbox table as Debezium's documentation has it, a publication and a slot. All of
// it goes by close.
type outbox struct {
	admin  string // DSN of the server
	name   string // of the database, the slot and the publication
	config *pgx.ConnConfig
	conn   *pgx.Conn
}

const table = `
CREATE TABLE outbox (
	id            uuid PRIMARY KEY,
	aggregatetype varchar(255) NOT NULL,
	aggregateid   varchar(255) NOT NULL,
	type          varchar(255) NOT NULL,
	payload       bytea NOT NULL
)`

// newOutbox makes the database. The slot is made before the first row: what is committed before is not the slot's.
func newOutbox(ctx context.Context, dsn string) (_ *outbox, err error) {
	b := &outbox{admin: dsn, name: fmt.Sprintf("peer_%08x", rand.Uint32())}
	if err := b.onServer(ctx, "CREATE DATABASE "+b.name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.config, err = pgx.ParseConfig(dsn); err != nil {
		return nil, fmt.Errorf("read Options.Postgres: %w", err)
	}
	b.config.Database = b.name
	if b.conn, err = pgx.ConnectConfig(ctx, b.config); err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", b.name, err)
	}
	return b, b.create(ctx)
}

func (b *outbox) create(ctx context.Context) error {
	var level string
	if err := b.conn.QueryRow(ctx, "SHOW wal_level").Scan(&level); err != nil {
		return fmt.Errorf("ask for wal_level: %w", err)
	}
	if level != "logical" {
		return fmt.Errorf("the server has wal_level=%s: Debezium needs logical; set it and restart the server", level)
	}
	for _, sql := range []string{
		table,
		"CREATE PUBLICATION " + b.name + " FOR TABLE outbox WITH (publish = 'insert')",
		"SELECT pg_create_logical_replication_slot('" + b.name + "', 'pgoutput')",
	} {
		if _, err := b.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare the outbox: %w", err)
		}
	}
	return nil
}

// walSender returns the process that sends the slot's changes, 0 while there is none.
func (b *outbox) walSender(ctx context.Context) (pid int, err error) {
	err = b.conn.QueryRow(ctx, "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1", b.name).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("ask who reads slot %s: %w", b.name, err)
	}
	return pid, nil
}

// released waits until nobody reads the slot: a worker that finds it taken waits for ten seconds.
func (b *outbox) released(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		pid, err := b.walSender(ctx)
		if err != nil || pid == 0 {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait until process %d releases slot %s: %w", pid, b.name, err)
		}
	}
}

// close takes slot and database away, whatever became of the run.
func (b *outbox) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var held error
	if b.conn != nil {
		held = b.released(ctx)
		b.conn.Close(ctx)
	}
	slot := b.onServer(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '"+b.name+"'")
	// A database with a slot is not dropped.
	return errors.Join(held, slot, b.onServer(ctx, "DROP DATABASE "+b.name+" WITH (FORCE)"))
}

// onServer runs one statement on a connection of its own.
func (b *outbox) onServer(ctx context.Context, sql string) error {
	conn, err := pgconn.Connect(ctx, b.admin)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(ctx)
	if err := conn.Exec(ctx, sql).Close(); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
