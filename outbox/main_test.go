package outbox_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/test/harness"
)

// TestMain leaves the examples out where the tests would be skipped for want of a PostgreSQL: an example cannot skip
// itself.
func TestMain(m *testing.M) {
	flag.Parse()
	probe := &exampleT{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		harness.Postgres(probe)
	}()
	<-done
	probe.finish()
	if probe.skipped != "" {
		fmt.Fprintln(os.Stderr, "examples were not run:", probe.skipped)
		if err := flag.Set("test.skip", "^Example"); err != nil {
			panic(err)
		}
	}
	harness.Main(m)
}

// exampleT lets an example ask the harness for a database.
type exampleT struct {
	testing.TB
	cleanups []func()
	skipped  string
}

func (t *exampleT) Helper()                           {}
func (t *exampleT) Name() string                      { return "Example" }
func (t *exampleT) Context() context.Context          { return context.Background() }
func (t *exampleT) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (t *exampleT) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleT) Skipf(format string, args ...any)  { t.Skip(fmt.Sprintf(format, args...)) }

func (t *exampleT) Skip(args ...any) {
	t.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (t *exampleT) finish() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

// exampleDatabase is a new database that the function returned removes again.
func exampleDatabase() (*pgxpool.Pool, func()) {
	t := &exampleT{}
	pool := harness.Postgres(t).Pool(t)
	if _, err := pool.Exec(t.Context(), "create table book (id text primary key, lent_to text); insert into book values ('moby-dick')"); err != nil {
		panic(err)
	}
	return pool, t.finish
}

// exampleOutbox is a new database with the tables of the outbox.
func exampleOutbox() (*pgxpool.Pool, func()) {
	pool, done := exampleDatabase()
	if _, err := migrate.Up(context.Background(), pool); err != nil {
		panic(err)
	}
	return pool, done
}

func exampleCatalogue() *schemas.Catalogue {
	c, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		panic(err)
	}
	return c
}

func printOutbox(pool *pgxpool.Pool) {
	rows, err := pool.Query(context.Background(), "select topic, key, type from outbox.event order by id")
	if err != nil {
		panic(err)
	}
	defer rows.Close()
	for rows.Next() {
		var topic, key, kind string
		if err := rows.Scan(&topic, &key, &kind); err != nil {
			panic(err)
		}
		fmt.Println(topic, key, kind)
	}
}
