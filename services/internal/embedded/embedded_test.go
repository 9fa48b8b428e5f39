package embedded

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
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

func TestRedisAnswers(t *testing.T) {
	r, err := StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	opts, err := redis.ParseURL(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	cl := redis.NewClient(opts)
	defer cl.Close()
	if err := cl.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

// PostgreSQL runs as somebody else when this process is root's: a folder that user cannot enter is said before anything fails.
func TestAFolderThatPostgresCannotEnterIsSaid(t *testing.T) {
	owner, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(t.TempDir(), "closed") // nobody else passes the parent of a test's folder
	err = prepareDir(filepath.Join(closed, "pg"), owner)
	if owner.root() != (err != nil) {
		t.Errorf("as %q: %v", owner.name, err)
	}
	if err != nil && (!strings.Contains(err.Error(), "cannot pass") || !strings.Contains(err.Error(), "--keep DIR")) {
		t.Error(err)
	}
}

// What does not start says why, with the end of its log, and leaves no process.
func TestPostgresThatDoesNotStartSaysWhy(t *testing.T) {
	dir, err := os.MkdirTemp("", "millrace-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "pg", "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9.6\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(t.Context(), filepath.Join(dir, "pg"), func(string) {}); err == nil || !strings.Contains(err.Error(), "PostgreSQL ended at start: ") {
		t.Errorf("%v", err)
	}
}
