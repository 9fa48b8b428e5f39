package embedded

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The data outlives the server, and a second start finds it.
func TestPostgresKeepsItsData(t *testing.T) {
	dir, err := os.MkdirTemp("", "millrace-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx := context.Background()
	with := func(use func(*pgx.Conn)) {
		p, err := StartPostgres(ctx, filepath.Join(dir, "pg"), func(s string) { t.Log(s) })
		if err != nil {
			t.Fatal(err)
		}
		t.Log(p.From)
		conn, err := pgx.Connect(ctx, p.URL)
		if err != nil {
			t.Fatal(err)
		}
		use(conn)
		conn.Close(ctx)
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	with(func(conn *pgx.Conn) {
		if _, err := conn.Exec(ctx, "create table kept as select 7 as n"); err != nil {
			t.Fatal(err)
		}
	})
	with(func(conn *pgx.Conn) {
		var n int
		if err := conn.QueryRow(ctx, "select n from kept").Scan(&n); err != nil || n != 7 {
			t.Fatal(n, err)
		}
	})
}

func TestKafkaTakesRecords(t *testing.T) {
	k, err := StartKafka()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
}
