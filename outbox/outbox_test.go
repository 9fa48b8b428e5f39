package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/outbox/outboxtest"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

// BookLent is a typed event; its schema names the key.
type BookLent struct {
	BookID   string    `avro:"book_id"`
	MemberID string    `avro:"member_id"`
	Due      time.Time `avro:"due"`
	Fee      *big.Rat  `avro:"fee"`
	Note     *string   `avro:"note"`
	Copies   int       `avro:"copies"`
}

func (BookLent) EventType() string { return "library.BookLent" }

// Remark is a typed event that names its key itself; its schema names neither key nor topic.
type Remark struct {
	Text string `avro:"text"`
}

func (Remark) EventType() string  { return "library.Remark" }
func (r Remark) EventKey() string { return "remark-" + r.Text }

var due = time.Date(2025, 3, 14, 0, 0, 0, 0, time.UTC)

func lent(book string) BookLent {
	return BookLent{BookID: book, MemberID: "m-1", Due: due, Fee: big.NewRat(5, 2), Copies: 1}
}

func lentRecord(book string) outbox.Record {
	return outbox.Record{Type: "library.BookLent", Fields: map[string]any{"book_id": book, "member_id": "m-1", "due": "2025-03-14"}}
}

func library(t testing.TB) *schemas.Catalogue {
	t.Helper()
	c, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// migrated is a new database with the tables in it.
func migrated(t testing.TB) (*harness.PostgresDB, *pgxpool.Pool) {
	t.Helper()
	db := harness.Postgres(t)
	pool := db.Pool(t)
	outboxtest.Migrate(t, pool)
	return db, pool
}

func newOutbox(t testing.TB, pool *pgxpool.Pool, opts ...outbox.Option) *outbox.Outbox {
	t.Helper()
	out, err := outbox.New(t.Context(), pool, library(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func openSQL(t testing.TB, driver string, db *harness.PostgresDB) *sql.DB {
	t.Helper()
	dsn, err := url.Parse(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	query := dsn.Query()
	query.Set("sslmode", "disable") // lib/pq insists on TLS otherwise
	dsn.RawQuery = query.Encode()
	pool, err := sql.Open(driver, dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func begin(t testing.TB, db interface {
	Begin(context.Context) (pgx.Tx, error)
}) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewStoresSchemas(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	for name, first := range map[string]func() error{
		"pool": func() error { _, err := outbox.New(t.Context(), pool, library(t)); return err },
		"conn": func() error { _, err := outbox.New(t.Context(), db.Conn(t), library(t)); return err },
		"pgx by database/sql": func() error {
			_, err := outbox.New(t.Context(), openSQL(t, "pgx", db), library(t))
			return err
		},
		"lib/pq": func() error {
			_, err := outbox.New(t.Context(), openSQL(t, "postgres", db), library(t))
			return err
		},
	} {
		_, err := pool.Exec(t.Context(), "delete from outbox.schema")
		must(t, err)
		for range 2 {
			if err := first(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		stored, err := outbox.List(t.Context(), pool)
		must(t, err)
		all := library(t).All()
		if len(stored) != len(all) {
			t.Fatalf("%s: %d schemas are stored, want %d", name, len(stored), len(all))
		}
		for i, s := range stored {
			if s.Fingerprint != all[i].Fingerprint || s.Name != all[i].Name || s.Topic != all[i].Topic || s.Key != all[i].Key || s.Text != all[i].Text || !s.Current {
				t.Errorf("%s: stored %+v, want %+v", name, s, all[i])
			}
		}
	}
}

func TestNewByManyAtOnce(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards the following
	added := map[string]int{}
	for range 8 {
		wg.Go(func() {
			list, err := outbox.Push(t.Context(), pool, library(t))
			if err != nil {
				t.Errorf("one of several: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range list {
				added[s.Name]++
			}
		})
	}
	wg.Wait()
	for _, s := range library(t).All() {
		if added[s.Name] != 1 {
			t.Errorf("schema %s was stored %d times", s.Name, added[s.Name])
		}
	}
}

// Promise 1: the schema an event names is stored whatever becomes of the transaction around New.
func TestPromise1NewIsNotUndoneByTheUsersRollback(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	conn := db.Conn(t)
	_, err := conn.Exec(t.Context(), "begin")
	must(t, err)
	if _, err := outbox.New(t.Context(), conn, library(t)); !errors.Is(err, outbox.ErrInTransaction) {
		t.Fatalf("New on a connection in a transaction: %v, want ErrInTransaction", err)
	}
	// With a pool the schemas go by another connection, and stay.
	tx := begin(t, pool)
	newOutbox(t, pool)
	must(t, tx.Rollback(t.Context()))
	stored, err := outbox.List(t.Context(), pool)
	must(t, err)
	if len(stored) == 0 {
		t.Error("the schemas went with the rollback")
	}
}

// A crash of Postgres forgets commits that did not wait for the disk. The process would go on with schemas that are no
// longer stored, and its events would be parked.
func TestPromise1NewStoresSchemasDurably(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	_, err := pool.Exec(t.Context(), `
		create table saw (setting text);
		create function look() returns trigger language plpgsql as $$
			begin insert into saw values (current_setting('synchronous_commit')); return new; end $$;
		create trigger look before insert on outbox.schema for each row execute function look();
		alter database `+pgx.Identifier{db.Name}.Sanitize()+` set synchronous_commit = off`)
	must(t, err)
	conn := db.Conn(t) // made after the setting
	_, err = outbox.New(t.Context(), conn, library(t))
	must(t, err)
	var lax, all int
	must(t, conn.QueryRow(t.Context(), `select count(*) filter (where setting = 'off'), count(*) from saw`).Scan(&lax, &all))
	if all == 0 || lax > 0 {
		t.Errorf("%d of %d schemas were stored with synchronous_commit = off", lax, all)
	}
	var after string
	must(t, conn.QueryRow(t.Context(), `show synchronous_commit`).Scan(&after))
	if after != "off" {
		t.Errorf("the session's own setting became %s", after)
	}
}

func TestNewWithoutTables(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	if _, err := outbox.New(t.Context(), db.Pool(t), library(t)); !errors.Is(err, outbox.ErrNotMigrated) {
		t.Errorf("pgx: %v, want ErrNotMigrated", err)
	}
	if _, err := outbox.New(t.Context(), openSQL(t, "postgres", db), library(t)); !errors.Is(err, outbox.ErrNotMigrated) {
		t.Errorf("lib/pq: %v, want ErrNotMigrated", err)
	}
}

// An application's role can do what the migration's comments grant, and needs no right to write schemas where they
// are pushed beforehand.
func TestNewWithTheRightsOfAnApplication(t *testing.T) {
	t.Parallel()
	db, pool := migrated(t)
	newOutbox(t, pool)
	conn := db.Conn(t)
	role := "app_" + db.Name
	for _, q := range []string{
		"create role " + role, "grant usage on schema outbox to " + role, "grant insert on outbox.event to " + role,
		"grant usage on sequence outbox.event_id_seq to " + role, "grant select on outbox.schema to " + role, "set role " + role,
	} {
		_, err := conn.Exec(t.Context(), q)
		must(t, err)
	}
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	out, err := outbox.New(t.Context(), conn, library(t))
	must(t, err)
	tx := begin(t, conn)
	must(t, out.Write(t.Context(), tx, lent("b-1")))
	_, err = tx.Exec(t.Context(), `select outbox.lock_key('library.books', 'b-2'), outbox.emit('library.BookLent', null, '{"book_id": "b-2", "member_id": "m", "due": "2025-03-14"}')`)
	must(t, err)
	must(t, tx.Commit(t.Context()))
	outboxtest.Require(t, pool, lent("b-1"), outbox.Record{Type: "library.BookLent", Key: "b-2", Fields: map[string]any{"book_id": "b-2", "member_id": "m", "due": due}})
}

// An old program that starts again must not turn emit() back to its older schema.
func TestPushOfAnOldSchemaDoesNotMakeItCurrent(t *testing.T) {
	t.Parallel()
	_, pool := migrated(t)
	version := func(field string) *schemas.Catalogue {
		s, err := schemas.Parse(`{"type": "record", "name": "x.E", "millrace.topic": "t", "millrace.key": "id",
			"fields": [{"name": "id", "type": "string"}, {"name": "` + field + `", "type": ["null", "string"], "default": null}]}`)
		must(t, err)
		c, err := schemas.NewCatalogue(s)
		must(t, err)
		return c
	}
	for i, field := range []string{"a", "b", "a", "b", "a"} {
		added, err := outbox.Push(t.Context(), pool, version(field))
		must(t, err)
		if want := map[bool]int{true: 1, false: 0}[i < 2]; len(added) != want {
			t.Errorf("push %d stored %d schemas, want %d", i, len(added), want)
		}
	}
	stored, err := outbox.List(t.Context(), pool)
	must(t, err)
	if len(stored) != 2 || stored[0].Current || !stored[1].Current {
		t.Fatalf("stored: %+v", stored)
	}
	_, err = pool.Exec(t.Context(), `select outbox.emit('x.E', null, '{"id": "1", "b": "new"}')`)
	must(t, err)
	outboxtest.Require(t, pool, outbox.Record{Type: "x.E", Key: "1", Fields: map[string]any{"id": "1", "b": "new"}})
}

func TestAnotherDatabaseSchema(t *testing.T) {
	t.Parallel()
	const name = `Our "own" outbox's`
	pool := harness.Postgres(t).Pool(t)
	outboxtest.Migrate(t, pool, migrate.WithSchema(name))
	out := newOutbox(t, pool, outbox.WithSchema(name))
	tx := begin(t, pool)
	must(t, out.Write(t.Context(), tx, lent("b-1")))
	_, err := tx.Exec(t.Context(), `select "Our ""own"" outbox's".emit('library.Remark', 'k', '{"text": "x"}')`)
	if err == nil {
		t.Error("emit accepted a type without a topic")
	}
	must(t, tx.Rollback(t.Context()))
	tx = begin(t, pool)
	_, err = tx.Exec(t.Context(), `select "Our ""own"" outbox's".emit('library.ShelfMoved', null, '{"room": "north", "shelf": 7}')`)
	must(t, err)
	outboxtest.Outbox{Schema: name}.Require(t, tx, outbox.Record{Type: "library.ShelfMoved", Key: "7", Fields: map[string]any{"room": "north", "shelf": 7}})
}
