package history_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/history"
)

const (
	seedEnv    = "MILLRACE_HISTORY_SEED"
	commitsEnv = "MILLRACE_HISTORY_COMMITS"
	keys       = 120
)

// Promise 1: Nothing invented, nothing lost. Promise 2: Order. Over 100,000 commits (6,000 with -short) of forty
// writers, with a reader that pauses, reads small pages and is killed in mid-window.
func TestRandomHistory(t *testing.T) {
	db := newOutbox(t, quietServer(t))
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	f := &relay{
		dsn: db.DSN, ledger: history.NewLedger(), rng: rng, restarts: 3,
		limit: func() int { return []int{1, 7, 50, 400}[rng.IntN(4)] },
	}
	t.Cleanup(f.crash)
	commits := int64(100_000)
	if testing.Short() {
		commits = 6_000
	}
	w := run(t, db, seed, number(t, commitsEnv, commits), func(ctx context.Context) (int, error) {
		if rng.IntN(40) == 0 { // the pause that makes windows of many pages
			idle(ctx, time.Duration(rng.Int64N(int64(150*time.Millisecond))))
		}
		return f.poll(ctx)
	})
	verify(t, db, f.ledger)
	t.Logf("%d commits, %d rollbacks, %d events; reader started %d times, in mid-window %d times; %d windows of many pages",
		w.Committed(), w.RolledBack(), f.ledger.Len(), f.started, f.resumed, f.windows)
	if f.resumed < 2 || f.windows < 2 {
		t.Errorf("the run did not try what it should: %d windows opened again, %d windows of many pages", f.resumed, f.windows)
	}
}

// The checker must find each trap in a random run, too; and nothing in a plain reader that falls into none.
func TestRandomHistoryFindsTraps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	server := quietServer(t)
	for _, trap := range []struct {
		name   string
		reader func(*pgx.Conn, *history.Ledger) follower
		want   history.Kind // empty: nothing
	}{
		{"none", func(c *pgx.Conn, l *history.Ledger) follower { return &difference{conn: c, ledger: l} }, ""},
		{"order by xid below the oldest running", func(c *pgx.Conn, l *history.Ledger) follower { return &byXid{conn: c, ledger: l} }, history.Inversion},
		{"ids above the last one", func(c *pgx.Conn, l *history.Ledger) follower { return &byID{conn: c, ledger: l} }, history.Missing},
		{"lower bound from the sequence", func(c *pgx.Conn, l *history.Ledger) follower {
			return &difference{conn: c, ledger: l, bound: sequenceBound}
		}, history.Missing},
		{"lowest id asked before upper", func(c *pgx.Conn, l *history.Ledger) follower {
			return &difference{conn: c, ledger: l, bound: lowestFirst}
		}, history.Missing},
	} {
		t.Run(trap.name, func(t *testing.T) {
			seed := seed(t)
			tries := 6
			if trap.want == "" {
				tries = 1
			}
			for try := range tries {
				db := newOutbox(t, server)
				ledger := history.NewLedger()
				reader := trap.reader(db.Conn(t), ledger)
				run(t, db, seed+uint64(try), 2000, reader.poll)
				found := history.Count(ledger.Verify(truth(t, db)))
				if trap.want == "" {
					if len(found) > 0 {
						t.Fatalf("violations by a reader that falls into no trap: %v", found)
					}
					return
				}
				if found[trap.want] > 0 {
					t.Logf("found out in run %d: %v", try+1, found)
					return
				}
			}
			t.Fatalf("the checker did not find this out in %d runs", tries)
		})
	}
}

// run lets writers write and the reader read until all is committed and read.
func run(t *testing.T, db *harness.PostgresDB, seed uint64, commits int64, poll func(context.Context) (int, error)) *history.Workload {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := &history.Workload{DSN: db.DSN, Seed: seed, Writers: 40, Keys: keys, Commits: commits}
	written := make(chan error, 1)
	go func() { written <- w.Run(ctx) }()
	finished := false
	for empty := 0; empty < 3; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatalf("write: %v", err)
			}
			finished = true
		default:
		}
		n, err := poll(ctx)
		if err != nil {
			cancel()
			if !finished {
				<-written
			}
			t.Fatalf("read: %v", err)
		}
		if n == 0 {
			idle(ctx, 2*time.Millisecond)
		}
		if n > 0 || !finished {
			empty = 0
		} else {
			empty++
		}
	}
	return w
}

// idle is what a relay does between polls, and what an overloaded one does without wanting to.
func idle(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// quietServer is a server where nobody but the test draws transaction ids or writes WAL.
func quietServer(t *testing.T) *harness.PostgresProcess {
	return harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{
		"autovacuum": "off", "bgwriter_lru_maxpages": "0",
	}})
}

// newOutbox makes a database with an outbox and the application's counters.
func newOutbox(t *testing.T, server *harness.PostgresProcess) *harness.PostgresDB {
	t.Helper()
	db := server.Database(t)
	conn := db.Conn(t)
	if _, err := migrate.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := history.Setup(t.Context(), conn, keys); err != nil {
		t.Fatal(err)
	}
	return db
}

func truth(t *testing.T, db *harness.PostgresDB) history.Truth {
	t.Helper()
	truth, err := history.ReadTruth(t.Context(), db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

// verify fails the test with what is wrong.
func verify(t *testing.T, db *harness.PostgresDB, ledger *history.Ledger) {
	t.Helper()
	found := ledger.Verify(truth(t, db))
	for i, v := range found {
		if i == 20 {
			t.Errorf("and %d more: %v", len(found)-i, history.Count(found))
			break
		}
		t.Error(v)
	}
}

func seed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(number(t, seedEnv, int64(rand.Uint64()>>1)))
	t.Logf("%s=%d", seedEnv, seed)
	return seed
}

func number(t *testing.T, env string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", env, err))
	}
	return n
}
