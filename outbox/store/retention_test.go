package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
)

// turn makes the sequence go to the next leaf, and fails unless what came of it is want.
func turn(t *testing.T, conn *pgx.Conn, want Turn) {
	t.Helper()
	got, err := TurnRing(t.Context(), conn, "", true)
	if err != nil || got != want {
		t.Fatalf("turned the ring: %q, %v, want %q", got, err, want)
	}
}

func empty(t *testing.T, conn *pgx.Conn, leaf int, last Snapshot, want Emptying) {
	t.Helper()
	got, err := EmptyLeaf(t.Context(), conn, "", leaf, last, time.Now().Add(time.Hour))
	if err != nil || got != want {
		t.Fatalf("emptied leaf %d: %q, %v, want %q", leaf, got, err, want)
	}
}

func readRing(t *testing.T, conn *pgx.Conn) *Ring {
	t.Helper()
	ring, err := ReadRing(t.Context(), conn, "")
	if err != nil {
		t.Fatal(err)
	}
	return &ring
}

// settled returns a snapshot, as of a committed cursor, that has passed everything that runs now on this server; other
// tests run there too.
func settled(t *testing.T, conn *pgx.Conn) Snapshot {
	t.Helper()
	var now uint64
	if err := conn.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	for {
		if s := current(t, conn); s.Xmin > now {
			return s
		}
		exec(t, conn, `select pg_current_xact_id()`)
		time.Sleep(10 * time.Millisecond) // nothing tells of the end of others' transactions
	}
}

// A whole round of the ring, and another: every leaf is filled, left, emptied and filled again, and what is retained is
// what was left last.
func TestRingGoesRound(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	var last Snapshot
	for generation := int64(0); generation < 2*LeafCount+1; generation++ {
		fill(t, conn, "k", 10)
		var got []int64
		got, last = open(t, r, last, 4)
		first := generation<<32 + 1
		if !slices.Equal(got, ids(first, first+9)) {
			t.Fatalf("generation %d: read %v, want ten from %d", generation, got, first)
		}
		ring := readRing(t, conn)
		if ring.Generation != generation || ring.Leaves[ring.Current()].NewestXid == 0 {
			t.Fatalf("the ring is %+v, want generation %d", ring, generation)
		}
		if oldest := ring.Before(LeafCount - 1); ring.Leaves[oldest].NewestXid != 0 {
			turn(t, conn, TurnFull)
			empty(t, conn, oldest, settled(t, conn), Emptied)
			if ring = readRing(t, conn); ring.Leaves[oldest].NewestXid != 0 || ring.Floor != (generation-6)<<32 {
				t.Fatalf("after leaf %d was emptied: %+v", oldest, ring)
			}
			if ring.Ahead() != 1 {
				t.Fatalf("%d leaves ahead, want 1", ring.Ahead())
			}
		}
		if generation < 2*LeafCount {
			settled(t, conn)
			turn(t, conn, Turned)
		}
	}
	var rows int
	if err := conn.QueryRow(t.Context(), `select count(*) from outbox.event`).Scan(&rows); err != nil || rows != 10*(LeafCount-1) {
		t.Errorf("%d rows retained, %v", rows, err)
	}
}

// Promise 1: rows that the committed `last` does not see keep their leaf.
func TestUnpublishedRowsKeepTheirLeaf(t *testing.T) {
	db, conn := newOutbox(t)
	running := begin(t, db)
	exec(t, running, `select pg_current_xact_id()`)
	fill(t, conn, "k", 10)
	before := current(t, conn) // sees the ten, but not the one that runs
	fill(t, running, "late", 1)
	turn(t, conn, Turned)
	empty(t, conn, 1, before, EmptyCurrent)
	empty(t, conn, 2, before, EmptyCurrent)
	empty(t, conn, 0, Snapshot{}, EmptyUnpublished)
	empty(t, conn, 0, before, EmptyLocked) // by the writer
	exec(t, running, `commit`)
	empty(t, conn, 0, before, EmptyUnpublished)
	got, err := EmptyLeaf(t.Context(), conn, "", 0, settled(t, conn), time.Now().Add(-time.Hour))
	if err != nil || got != EmptyRetained {
		t.Fatalf("a leaf left after the time given: %q, %v", got, err)
	}
	empty(t, conn, 0, settled(t, conn), Emptied)
}

// late is a writer that has drawn an id in leaf 1 and waits for the leaf, which blocker holds as a TRUNCATE does.
func late(t *testing.T, db *harness.PostgresDB, blocker *pgx.Conn) (landed chan error) {
	t.Helper()
	exec(t, blocker, `lock table outbox.event_1 in access exclusive mode`)
	writer := db.Conn(t)
	landed = make(chan error, 1)
	go func() {
		_, err := writer.Exec(context.WithoutCancel(t.Context()), `insert into outbox.event (topic, key, type, schema_fp, payload)
			values ('t', 'late', 'x', '\x00000000000000000000000000000000', '')`)
		landed <- err
	}()
	for waiting := false; !waiting; {
		err := blocker.QueryRow(t.Context(), `select exists (select from pg_locks where not granted and relation = 'outbox.event_1'::regclass)`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	return landed
}

// lateRow stages an INSERT that lands in an emptied leaf, and says whether the reader finds it. spoil puts a bug in.
func lateRow(t *testing.T, spoil string) bool {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "k", 5)
	turn(t, conn, Turned)
	open(t, r, Snapshot{}, 10)
	_, last := open(t, r, settled(t, conn), 10) // knows the ring, and leaves the first leaf out
	blocker := begin(t, db)
	landed := late(t, db, blocker)
	turn(t, conn, Turned)
	exec(t, blocker, `truncate outbox.event_1`)
	exec(t, blocker, `update outbox.leaf set emptied_at = clock_timestamp() where leaf = 1`)
	if spoil != "" {
		exec(t, blocker, spoil)
		exec(t, blocker, `update outbox.ring set epoch = epoch + 1`)
	}
	exec(t, blocker, `commit`)
	if err := <-landed; err != nil {
		t.Fatal(err)
	}
	fill(t, conn, "k", 5)
	got, _ := open(t, r, last, 100)
	if !slices.ContainsFunc(got, func(id int64) bool { return LeafOf(id) == 2 }) {
		t.Fatalf("read %v, want those of the third leaf as well", got)
	}
	return slices.ContainsFunc(got, func(id int64) bool { return LeafOf(id) == 1 })
}

// A row that lands in a leaf after it was emptied is published: being empty proves nothing.
func TestLateRowInAnEmptiedLeafIsRead(t *testing.T) {
	t.Parallel()
	if !lateRow(t, "") {
		t.Error("the late row was not read")
	}
}

// The proof can fail: with leaves left out because they are empty, the row is lost.
func TestLateRowIsLostIfEmptyLeavesAreLeftOut(t *testing.T) {
	t.Parallel()
	if lateRow(t, `update outbox.leaf set left_xid = '3' where emptied_at is not null`) {
		t.Error("the late row was read: the test cannot tell a reader that looks at empty leaves from one that does not")
	}
}

// A leaf whose rows are published is not opened by polls; one that may still get a row is.
func TestPublishedLeavesAreLeftOut(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	var last Snapshot
	for range 4 {
		fill(t, conn, "k", 3)
		_, last = open(t, r, last, 10)
		turn(t, conn, Turned)
	}
	last = settled(t, conn)
	if _, _, err := r.Open(t.Context(), last, 10); err != nil { // learns that the ring has turned
		t.Fatal(err)
	}
	if _, _, err := r.Open(t.Context(), last, 10); err != nil {
		t.Fatal(err)
	}
	if live := r.leaves.live(last); !slices.Equal(live.list, []int64{4, 5}) && !slices.Equal(live.list, []int64{4, 7, 6, 5}) {
		t.Errorf("polls look at leaves %v", live.list)
	}
	if live := r.leaves.live(Snapshot{}); len(live.list) != LeafCount {
		t.Errorf("from the beginning, polls look at leaves %v only", live.list)
	}
	ring := readRing(t, conn)
	early := Snapshot{Xmin: ring.Leaves[1].LeftXid - 1, Xmax: last.Xmax}
	if live := r.leaves.live(early); !slices.Contains(live.list, 1) || slices.Contains(live.list, 0) {
		t.Errorf("before the xid seen at leaving is passed, polls look at leaves %v", live.list)
	}
}

// A reader that slept while the ring went round looks where it is now; so does one that nobody told.
func TestReaderIsNotFooledByTheRing(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	for range 7 {
		fill(t, conn, "k", 3)
		turn(t, conn, Turned)
	}
	open(t, r, Snapshot{}, 1000)
	last := settled(t, conn)
	for range 3 {
		_, last = open(t, r, last, 10)
	}
	if live := r.leaves.live(last); len(live.list) == LeafCount {
		t.Fatal("no leaf is left out")
	}
	t.Run("leaves emptied and entered", func(t *testing.T) {
		for leaf := range 3 {
			empty(t, conn, leaf, settled(t, conn), Emptied)
			settled(t, conn)
			turn(t, conn, Turned)
		}
		fill(t, conn, "k", 3)
		var got []int64
		if got, last = open(t, r, last, 10); len(got) != 3 || LeafOf(got[0]) != 2 {
			t.Errorf("read %v, want three in leaf 2", got)
		}
	})
	t.Run("a sequence that went on by itself", func(t *testing.T) {
		last = settled(t, conn)
		for range 3 {
			_, last = open(t, r, last, 10)
		}
		if live := r.leaves.live(last); slices.Contains(live.list, 4) {
			t.Fatalf("leaf 4 is not left out: %v", live.list)
		}
		exec(t, conn, `select setval('outbox.event_id_seq', (((nextval('outbox.event_id_seq') >> 32) + 2) << 32) + 5)`)
		fill(t, conn, "k", 3)
		var got []int64
		if got, last = open(t, r, last, 10); len(got) != 3 || LeafOf(got[0]) != 4 {
			t.Errorf("read %v, want three in leaf 4", got)
		}
		if turn, err := TurnRing(t.Context(), conn, "", false); err != nil || turn != TurnSettled {
			t.Errorf("%q, %v, want %q", turn, err, TurnSettled)
		}
		fill(t, conn, "k", 3)
		if got, last = open(t, r, last, 10); len(got) != 3 {
			t.Errorf("read %v, want three", got)
		}
	})
}

// The sequence never goes back and never into a leaf that holds rows, however many turn the ring at the same time, with
// writers at full speed.
func TestManyTurnTheRing(t *testing.T) {
	db, conn := newOutbox(t)
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var all sync.WaitGroup
	turned := make([]int, 4)
	for i := range turned {
		c := db.Conn(t)
		all.Go(func() {
			for ctx.Err() == nil {
				got, err := TurnRing(context.WithoutCancel(ctx), c, "", true)
				if err != nil {
					t.Error(err)
					return
				}
				if got == Turned {
					turned[i]++
				}
				for leaf := range LeafCount {
					s := Snapshot{Xmin: 1<<40 + 3, Xmax: 1<<40 + 3} // sees everything
					if _, err := EmptyLeaf(context.WithoutCancel(ctx), c, "", leaf, s, time.Now().Add(time.Hour)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		c := db.Conn(t)
		all.Go(func() {
			before := int64(0)
			for ctx.Err() == nil {
				var id int64
				err := c.QueryRow(context.WithoutCancel(ctx), `insert into outbox.event (topic, key, type, schema_fp, payload)
					values ('t', 'k', 'x', '\x00000000000000000000000000000000', '') returning id`).Scan(&id)
				if err != nil || id <= before {
					t.Errorf("id %d after %d, %v", id, before, err)
					return
				}
				before = id
			}
		})
	}
	all.Wait()
	ring := readRing(t, conn)
	sum := 0
	for _, n := range turned {
		sum += n
	}
	t.Logf("%v turns, generation %d", turned, ring.Generation)
	if int64(sum) != ring.Generation || sum == 0 {
		t.Errorf("%d turns, and the ring is in generation %d", sum, ring.Generation)
	}
}

// No writer waits for a leaf to be emptied: not even one that comes late into this very leaf, while a dump holds it.
func TestNobodyWaitsForALeafToBeEmptied(t *testing.T) {
	t.Parallel()
	db, conn := newOutbox(t)
	fill(t, conn, "k", 10)
	turn(t, conn, Turned)
	dump := begin(t, db)
	exec(t, dump, `set transaction isolation level repeatable read`)
	exec(t, dump, `select count(*) from outbox.event`)
	last := settled(t, conn)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var all sync.WaitGroup
	worst := make([]time.Duration, 3)
	for i, sql := range []string{
		`insert into outbox.event (topic, key, type, schema_fp, payload) values ('t', 'k', 'x', '\x00000000000000000000000000000000', '')`,
		`select count(*) from (select from outbox.event order by id limit 1) e`,
		// Stands for one that drew its id before the ring turned. It is taken back, for a row that is not published would keep the leaf
		// from being asked for at all.
		`begin; insert into outbox.event (id, topic, key, type, schema_fp, payload) values (1000000, 't', 'k', 'x', '\x00000000000000000000000000000000', ''); rollback`,
	} {
		c := db.Conn(t)
		exec(t, c, `set synchronous_commit = off`) // it is locks that are measured, not the disk
		all.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if _, err := c.PgConn().Exec(context.WithoutCancel(ctx), sql).ReadAll(); err != nil {
					t.Error(err)
				}
				worst[i] = max(worst[i], time.Since(began))
			}
		})
	}
	tries := 0
	for ; ctx.Err() == nil; tries++ {
		if got, err := EmptyLeaf(context.WithoutCancel(ctx), conn, "", 0, last, time.Now().Add(time.Hour)); err != nil || got != EmptyLocked {
			t.Errorf("%q, %v, while a dump reads", got, err)
		}
	}
	all.Wait()
	t.Logf("%d tries; longest waits: INSERT %v, poll %v, INSERT into the leaf %v", tries, worst[0], worst[1], worst[2])
	// How long a wait is depends on the machine; how long the leaf is asked for, and so stands in others' way, does not.
	var bound string
	if err := conn.QueryRow(t.Context(), `select coalesce((select o from pg_proc p, unnest(p.proconfig) o
		where p.oid = 'outbox.empty_leaf(int, pg_snapshot, timestamptz)'::regprocedure and o like 'lock_timeout=%'), '')`).Scan(&bound); err != nil || bound != "lock_timeout=30ms" {
		t.Errorf("whoever empties a leaf asks for it with %q, %v: writers may have to wait 50 ms at most", bound, err)
	}
	exec(t, dump, `commit`)
	empty(t, conn, 0, settled(t, conn), Emptied)
}

// The cost of an idle poll stays level however many leaves are retained.
func TestPollCostIsLevelOverTheRing(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	var costs []int
	for leaf := range LeafCount {
		exec(t, conn, `insert into outbox.event (topic, key, type, schema_fp, payload)
			select 't', 'k', 'x', '\x00000000000000000000000000000000', int8send(g) from generate_series(1, 20000) g`)
		last := settled(t, conn)
		cost := 1 << 20
		for range 3 {
			if _, _, err := r.Open(t.Context(), last, 100); err != nil {
				t.Fatal(err)
			}
			cost = min(cost, buffers(t, r.conn, statements(r, last, last)[0]))
		}
		costs = append(costs, cost)
		if leaf < LeafCount-1 {
			turn(t, conn, Turned)
		}
	}
	t.Logf("buffers of an idle poll, by leaves in use: %v", costs)
	if costs[LeafCount-1] > costs[1]+6 {
		t.Errorf("with %d leaves a poll touches %d buffers, with two %d", LeafCount, costs[LeafCount-1], costs[1])
	}
	plan := explain(t, r.conn, statements(r, settled(t, conn), settled(t, conn))[0], "costs off, analyze, timing off")
	if want := fmt.Sprintf("Subplans Removed: %d", LeafCount-2); !strings.Contains(plan, want) {
		t.Errorf("want %q in the plan of a poll:\n%s", want, plan)
	}
}

// The last published row is gone with its leaf, and a late row with a lower id has come: that is no other database.
func TestVerifyRowInAnEmptiedLeaf(t *testing.T) {
	db, conn := newOutbox(t)
	r := newReader(t, db)
	fill(t, conn, "k", 3)
	turn(t, conn, Turned)
	empty(t, conn, 0, settled(t, conn), Emptied)
	exec(t, conn, `insert into outbox.event (id, topic, key, type, schema_fp, payload) values (2, 't', 'late', 'x', '\x00000000000000000000000000000000', '')`)
	if err := r.VerifyRow(t.Context(), 3, [16]byte{1}); err != nil {
		t.Error(err)
	}
}

// Who may lead may also retain: rights are handed on by the migration, or granted as it says.
func TestPrivilegesOfRetention(t *testing.T) {
	db, conn := newOutbox(t)
	role := "retain_" + db.Name
	run(t, conn, `create role `+role+`; grant usage on schema outbox to `+role+`; grant select on all tables in schema outbox to `+role+`;
		grant select on sequence outbox.event_id_seq to `+role+`;
		grant execute on function outbox.turn_ring(boolean), outbox.empty_leaf(int, pg_snapshot, timestamptz) to `+role)
	t.Cleanup(func() {
		if _, err := conn.PgConn().Exec(context.Background(), `drop owned by `+role+`; drop role `+role).ReadAll(); err != nil {
			t.Error(err)
		}
	})
	c := db.Conn(t)
	run(t, c, `set role `+role)
	fill(t, conn, "k", 3)
	turn(t, c, Turned)
	empty(t, c, 0, settled(t, c), Emptied)
	if ring := readRing(t, c); ring.Generation != 1 {
		t.Errorf("%+v", ring)
	}
}
