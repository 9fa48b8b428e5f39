package retention_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/history"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	seedEnv    = "MILLRACE_RETENTION_SEED"
	commitsEnv = "MILLRACE_RETENTION_COMMITS"
	keys       = 60
)

// keeper turns the ring and empties leaves as soon as it is allowed to. Its fields are the guards that can be taken away.
type keeper struct {
	upper  bool   // empty by the window's upper instead of the committed last
	spoil  string // a statement run on the outbox before it begins
	always string // a statement run after each turn

	turned, emptied             atomic.Int64
	unpublished, locked, others int
}

// run works until ctx ends. Like the relay it tries again when a statement took too long, for a disk that is busy.
func (k *keeper) run(ctx context.Context, conn *pgx.Conn, f *follower, rng *rand.Rand) error {
	for ctx.Err() == nil {
		err := k.round(context.WithoutCancel(ctx), conn, f)
		var answer *pgconn.PgError
		if errors.As(err, &answer) && answer.Code == "57014" {
			k.others++
		} else if err != nil {
			return err
		}
		pause(ctx, rng, 50*time.Millisecond)
	}
	return nil
}

func (k *keeper) round(ctx context.Context, conn *pgx.Conn, f *follower) error {
	turn, err := store.TurnRing(ctx, conn, "", true)
	if err != nil {
		return err
	}
	if turn == store.Turned {
		k.turned.Add(1)
		if k.always != "" {
			if _, err := conn.Exec(ctx, k.always, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
	}
	ring, err := store.ReadRing(ctx, conn, "")
	if err != nil {
		return err
	}
	for n := store.LeafCount - 1; n > 0; n-- {
		leaf := ring.Before(n)
		if ring.Leaves[leaf].NewestXid == 0 {
			continue
		}
		last := f.committed()
		if k.upper {
			last = f.reading()
		}
		got, err := store.EmptyLeaf(ctx, conn, "", leaf, last, ring.Now.Add(time.Hour))
		switch {
		case err != nil:
			return err
		case got == store.Emptied:
			k.emptied.Add(1)
		case got == store.EmptyUnpublished:
			k.unpublished++
		case got == store.EmptyLocked:
			k.locked++
		default:
			k.others++
		}
	}
	return nil
}

// write lets writers write until enough is committed, and the ring was turned and emptied often enough.
func write(ctx context.Context, dsn string, seed uint64, commits, turns int64, k *keeper) (committed int64, err error) {
	for committed < commits || k.turned.Load() < turns || k.emptied.Load() < turns {
		w := &history.Workload{DSN: dsn, Seed: seed, Writers: 20, Keys: keys, Commits: min(commits, 1000)}
		if err := w.Run(ctx); err != nil || ctx.Err() != nil {
			return committed, err
		}
		committed += w.Committed()
		seed++
	}
	return committed, nil
}

// crowd lets writers write, a follower read, and a keeper turn and empty, until all is committed and read; it returns
// what is wrong with what was published.
func crowd(t *testing.T, server *harness.PostgresProcess, seed uint64, commits, turns int64, k *keeper) []history.Violation {
	t.Helper()
	db := server.Database(t)
	conn := db.Conn(t)
	prepare(t, conn, k.spoil)
	f, err := newFollower(t.Context(), db.Conn(t), seed)
	if err != nil {
		t.Fatal(err)
	}
	f.slow = k.upper
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var committed int64
	written, kept := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		committed, err = write(ctx, db.DSN, seed, commits, turns, k)
		written <- err
	}()
	keeping, stop := context.WithCancel(ctx)
	defer stop()
	keeperConn := db.Conn(t)
	go func() { kept <- k.run(keeping, keeperConn, f, rand.New(rand.NewPCG(seed, 1<<34))) }()

	finished, vanished := false, false
	for empty := 0; empty < 3 && !vanished; {
		if !finished {
			select {
			case err := <-written:
				if err != nil {
					t.Fatalf("write: %v", err)
				}
				finished = true
			case err := <-kept: // the writers would wait for it
				t.Fatalf("keep: %v", err)
			default:
			}
		}
		n, err := f.poll(ctx)
		if vanished = errors.Is(err, store.ErrVanished); err != nil && !vanished {
			t.Fatalf("read: %v", err)
		}
		if empty++; n > 0 || !finished {
			empty = 0
		}
		if n == 0 {
			pause(ctx, f.rng, 4*time.Millisecond)
		}
	}
	stop()
	if err := <-kept; err != nil {
		t.Fatalf("keep: %v", err)
	}
	if vanished { // the reader has found it out itself
		cancel()
		if !finished {
			<-written
		}
		return []history.Violation{{Kind: history.Missing, What: store.ErrVanished.Error()}}
	}
	t.Logf("%d commits, %d events; %d turns, %d leaves emptied, %d times unpublished, %d times in use, %d otherwise",
		committed, f.ledger.Len(), k.turned.Load(), k.emptied.Load(), k.unpublished, k.locked, k.others)
	return f.ledger.Verify(truth(t, conn))
}

// prepare makes the outbox, the application's counters and the copy that is the truth.
func prepare(t *testing.T, conn *pgx.Conn, spoil string) {
	t.Helper()
	if _, err := migrate.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := history.Setup(t.Context(), conn, keys); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Exec(t.Context(), `
		create table truth (event_id uuid, xid bigint, id bigint, key text, n bigint);
		create function remember() returns trigger language plpgsql as $$ begin
			insert into truth values (new.event_id, new.xid::text::bigint, new.id, new.key,
				('x' || encode(substring(new.payload from 1 for 8), 'hex'))::bit(64)::bigint);
			return null;
		end $$;
		create trigger remember after insert on outbox.event for each row execute function remember();`+spoil,
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
}

func truth(t *testing.T, conn *pgx.Conn) history.Truth {
	t.Helper()
	out := history.Truth{Rows: map[[16]byte]history.Row{}, Counters: map[string]int64{}}
	rows, err := conn.Query(t.Context(), `select event_id, xid, id, key, n from truth`)
	if err != nil {
		t.Fatal(err)
	}
	var eventID [16]byte
	var row history.Row
	if _, err = pgx.ForEachRow(rows, []any{&eventID, &row.Xid, &row.ID, &row.Key, &row.N}, func() error {
		out.Rows[eventID] = row
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows, err = conn.Query(t.Context(), `select key, n from counter where n > 0`)
	if err != nil {
		t.Fatal(err)
	}
	var key string
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&key, &n}, func() error {
		out.Counters[key] = n
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Promise 1: Nothing invented, nothing lost. Promise 2: Order. Promise 6: an INSERT never fails because the relay is at
// work. With leaves turned and emptied many times a second.
func TestNothingIsLostWhenLeavesAreEmptied(t *testing.T) {
	t.Parallel()
	commits, turns := int64(8_000), int64(2*store.LeafCount)
	if testing.Short() {
		commits, turns = 1_000, store.LeafCount+1
	}
	seed := uint64(number(t, seedEnv, int64(rand.Uint64()>>1)))
	t.Logf("%s=%d", seedEnv, seed)
	k := &keeper{}
	found := crowd(t, quietServer(t), seed, number(t, commitsEnv, commits), turns, k)
	for i, v := range found {
		if i == 20 {
			t.Errorf("and %d more: %v", len(found)-i, history.Count(found))
			break
		}
		t.Error(v)
	}
}

// withoutRecheck makes empty_leaf believe that everything is published.
const withoutRecheck = `; do $$ begin
	execute replace(pg_get_functiondef('outbox.empty_leaf(int, pg_snapshot, timestamptz)'::regprocedure), $q$return 'unpublished';$q$, 'null;');
end $$`

// The checker must find each guard that is missing.
func TestMissingGuardsAreFoundOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	t.Parallel()
	server := quietServer(t)
	for _, bug := range []struct {
		name string
		k    *keeper
	}{
		{"rows not rechecked", &keeper{spoil: withoutRecheck}},
		{"upper instead of last", &keeper{upper: true}},
		{"leaves left out as soon as they are left", &keeper{always: `update outbox.leaf set left_xid = '3' where left_xid is not null; update outbox.ring set epoch = epoch + 1`}},
	} {
		t.Run(bug.name, func(t *testing.T) {
			const tries = 8
			for try := range tries {
				seed := rand.Uint64() >> 1
				t.Logf("%s=%d", seedEnv, seed)
				k := &keeper{upper: bug.k.upper, spoil: bug.k.spoil, always: bug.k.always}
				if found := history.Count(crowd(t, server, seed, 1000, 4, k)); found[history.Missing] > 0 {
					t.Logf("found out in run %d: %v", try+1, found)
					return
				}
			}
			t.Fatalf("the checker did not find this out in %d runs", tries)
		})
	}
}

// quietServer is a server where nobody but the test draws transaction ids: xmin follows at once.
func quietServer(t *testing.T) *harness.PostgresProcess {
	return harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"autovacuum": "off"}})
}

func number(t *testing.T, env string, value int64) int64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return value
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}
