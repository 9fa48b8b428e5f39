package harness_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/millrace/millrace/test/harness"
	"github.com/twmb/franz-go/pkg/kgo"
)

// exec runs one statement on a connection of its own.
func exec(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, dsn, table string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPrivatePostgresKeepsItsDataOverEveryKindOfEnd(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"wal_writer_delay": "10ms"}})
	db := server.Database(t)
	exec(t, db.DSN, "CREATE TABLE kept (n int)")
	for i, end := range []func(testing.TB){server.Stop, server.CrashStop, server.Kill} {
		exec(t, db.DSN, "INSERT INTO kept VALUES (1)")
		end(t)
		server.Start(t)
		if n := count(t, db.DSN, "kept"); n != i+1 {
			t.Fatalf("after end number %d: %d rows, want %d", i, n, i+1)
		}
	}
	server.Set("work_mem", "8MB")
	server.Restart(t)
	if n := count(t, db.DSN, "pg_settings WHERE name = 'work_mem' AND setting = '8192'"); n != 1 {
		t.Fatal("a setting did not take effect at restart")
	}
}

// The way in which DESIGN stages a crash that forgets transaction ids.
func TestPrivatePostgresRecoversFromAKilledWalwriter(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t, harness.PostgresOptions{})
	exec(t, server.DSN, "CREATE TABLE kept (n int)")
	walwriter := server.Backend(t, "walwriter")
	server.SignalBackend(t, walwriter, syscall.SIGSTOP)
	server.SignalBackend(t, walwriter, syscall.SIGKILL)
	server.WaitLine(t, "all server processes terminated; reinitializing", time.Minute)
	server.Ready(t)
	if again := server.Backend(t, "walwriter"); again == walwriter {
		t.Fatalf("the killed walwriter %d still runs", walwriter)
	}
	if n := count(t, server.DSN, "kept"); n != 0 {
		t.Fatalf("%d rows, want none", n)
	}
}

// A test may end with a process frozen; the server must stop all the same.
func TestPrivatePostgresStopsWithAFrozenProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("PostgreSQL gives a frozen process 5 s: not with -short")
	}
	t.Parallel()
	var pid int
	t.Run("freeze", func(t *testing.T) {
		server := harness.PostgresServer(t, harness.PostgresOptions{})
		pid = server.Backend(t, "walwriter")
		server.SignalBackend(t, pid, syscall.SIGSTOP)
	})
	eventually(t, "the frozen walwriter is gone", func() bool { return !running(pid) })
}

func TestPrivateKafkaKeepsItsDataOverAKill(t *testing.T) {
	t.Parallel()
	server := harness.KafkaServer(t, harness.KafkaOptions{HeapMB: 256})
	topic := server.NewTopic(t, 1, "min.insync.replicas", "1")
	producer := server.Client(t, kgo.DefaultProduceTopic(topic))
	if err := producer.ProduceSync(t.Context(), kgo.StringRecord("before")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	server.Start(t)
	if err := producer.ProduceSync(t.Context(), kgo.StringRecord("after")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := consume(t, &server.KafkaBroker, topic, 2)
	if got[0] != "before" || got[1] != "after" {
		t.Fatalf("after a kill the topic holds %q", got)
	}
}

func TestPrivateRedisStartsAgainOnItsPort(t *testing.T) {
	t.Parallel()
	server := harness.RedisServer(t)
	db := harness.RedisDB{URL: server.URL}
	client := db.Client(t)
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	server.Start(t)
	if n, err := client.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Fatalf("after a kill: %d keys, %v; want an empty server", n, err)
	}
}
