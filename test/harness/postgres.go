package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PostgresDB is one empty database that belongs to one test.
type PostgresDB struct {
	DSN  string // postgres:// URL, a superuser's
	Name string // the database's name
}

var sharedPostgres = &shared{env: PostgresEnv, start: func() (string, func(), error) {
	server, err := startPostgres(PostgresOptions{})
	if err != nil {
		return "", nil, err
	}
	return server.DSN, func() { server.stop() }, nil
}}

// Postgres returns a new database on the shared server. It is dropped at the
// end of the test. The server is fsync=on and shared with tests that run at
// the same time: transaction ids and snapshots are the whole server's.
func Postgres(t testing.TB) *PostgresDB {
	t.Helper()
	dsn, err := sharedPostgres.get()
	must(t, err)
	return newDatabase(t, dsn)
}

// newDatabase makes an empty database on the server that dsn names.
func newDatabase(t testing.TB, dsn string) *PostgresDB {
	t.Helper()
	name := fmt.Sprintf("test_%012x", rand.Uint64()>>16)
	must(t, onServer(dsn, "CREATE DATABASE "+name))
	t.Cleanup(func() {
		// A private server may be down by now; the shared one keeps no database of ours.
		if err := onServer(dsn, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Logf("drop test database: %v", err)
		}
	})
	mine, err := withDatabase(dsn, name)
	must(t, err)
	return &PostgresDB{DSN: mine, Name: name}
}

// onServer runs one statement on a connection of its own.
func onServer(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func withDatabase(dsn, name string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return "", fmt.Errorf("%s must be a postgres:// URL", PostgresEnv)
	}
	u.Path = "/" + name
	return u.String(), nil
}

// Conn returns a connection that is closed at the end of the test.
func (db *PostgresDB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.DSN)
	if err != nil {
		t.Fatalf("connect to test database: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Pool returns a pool that is closed at the end of the test.
func (db *PostgresDB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), db.DSN)
	if err != nil {
		t.Fatalf("open test database: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}
