package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/test/harness"
)

// stopAt makes the commits of a warehouse stop at a point: entered says that one is there, and it goes on with what is sent to resume.
func stopAt(w *Warehouse, point string) (entered chan struct{}, resume chan error) {
	entered, resume = make(chan struct{}, 1), make(chan error, 1)
	w.hook = func(at string) error {
		if at != point {
			return nil
		}
		entered <- struct{}{}
		return <-resume
	}
	return entered, resume
}

func committing(w *Warehouse, c fold.Commit) chan error {
	done := make(chan error, 1)
	go func() { done <- w.Commit(context.Background(), c) }()
	return done
}

// Promise 4: a connection that the server ends in mid-commit leaves nothing behind, and the batch is tried again.
func TestABackendTerminatedInMidCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{orders}}
	w, conn := openAt(t, cfg), connect(t, cfg.URL)
	c := claim(t, w, tp0)
	batch := put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil)
	entered, resume := stopAt(w, "before commit")
	done := committing(w, batch)
	<-entered
	// Everything but the commit has arrived, the state is written and locked.
	until(t, conn, "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname LIKE 'order%' AND l.mode = 'RowExclusiveLock')")
	if !one[bool](t, conn, "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'millrace warehouse' AND datname = current_database()") {
		t.Fatal("there was nothing to terminate")
	}
	resume <- nil
	if err := <-done; err == nil || consumers.Classify(err) != consumers.Transient || errors.Is(err, consumers.ErrPosition) {
		t.Errorf("the commit: %v", err)
	}
	if n := one[int](t, conn, `SELECT (SELECT count(*) FROM silver."order") + (SELECT count(*) FROM bronze.events) + (SELECT max(next) + 1 FROM millrace.positions)`); n != 0 {
		t.Errorf("of the commit there is left: %d", n)
	}
	w.hook = nil
	commit(t, w, batch)
	commit(t, w, put("order", tp0, c.Epoch, 1, "k", "y", nil, nil, nil, nil))
}

// Promise 4: when the connection is cut after COMMIT was sent, nobody knows what became of it; the position tells.
func TestACommitOfUnknownOutcomeIsToldByThePosition(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{orders}}
	w, conn := openAt(t, cfg), connect(t, cfg.URL)
	c := claim(t, w, tp0)
	batch := put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil)
	entered, resume := stopAt(w, "commit sent")
	done := committing(w, batch)
	<-entered
	until(t, conn, "SELECT EXISTS (SELECT FROM millrace.positions WHERE next = 1)") // it went through, and the answer is lost
	resume <- errors.New("the connection was cut")
	if err := <-done; err == nil || errors.Is(err, consumers.ErrPosition) {
		t.Errorf("the commit: %v", err)
	}
	w.hook = nil
	if err := w.Commit(context.Background(), batch); !errors.Is(err, consumers.ErrPosition) {
		t.Errorf("the same batch again: %v", err)
	}
	if c := claim(t, w, tp0); c.Next != 1 {
		t.Errorf("the claim says %+v", c)
	}
	if n := one[int](t, conn, `SELECT count(*) FROM bronze.events`); n != 1 {
		t.Errorf("the event is there %d times", n)
	}
}

// Promise 4: a slow zombie. An owner that is frozen in mid-commit keeps the next one waiting for no longer than its patience, and
// changes nothing when it wakes.
func TestAFrozenOwnerIsPutOut(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"after position", "before commit"} {
		t.Run(point, func(t *testing.T) {
			cfg := Config{URL: server(t), Projections: []fold.Projection{orders}, ClaimPatience: 50 * time.Millisecond}
			frozen, heir, conn := openAt(t, cfg), openAt(t, cfg), connect(t, cfg.URL)
			c := claim(t, frozen, tp0)
			entered, resume := stopAt(frozen, point)
			done := committing(frozen, put("order", tp0, c.Epoch, 0, "k", "of the zombie", nil, nil, nil, nil))
			<-entered
			until(t, conn, "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = 'ExclusiveLock')")
			c = claim(t, heir, tp0)
			if c.Epoch != 2 || c.Next != -1 {
				t.Errorf("the heir's claim is %+v", c)
			}
			commit(t, heir, put("order", tp0, c.Epoch, 0, "k", "of the heir", nil, nil, nil, nil))
			resume <- nil
			if err := <-done; err == nil {
				t.Error("the zombie's commit went through")
			}
			frozen.hook = nil
			if err := frozen.Commit(context.Background(), put("order", tp0, 1, 1, "k", "of the zombie", nil, nil, nil, nil)); !errors.Is(err, consumers.ErrFenced) {
				t.Errorf("the zombie's next commit: %v", err)
			}
			if got := one[string](t, conn, `SELECT status FROM silver."order"`); got != "of the heir" {
				t.Errorf("the state is that %s", got)
			}
		})
	}
}

// Once the commit was sent, the end of the caller's context does not hide its outcome; before, it ends the commit.
func TestACancelledCommitSaysWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{orders}}
	w := openAt(t, cfg)
	c := claim(t, w, tp0)
	for i, point := range []string{"commit sent", "before commit"} {
		ctx, cancel := context.WithCancel(context.Background())
		w.hook = func(at string) error {
			if at == point {
				cancel()
			}
			return nil
		}
		err := w.Commit(ctx, put("order", tp0, c.Epoch, int64(i), "k", "x", nil, nil, nil, nil))
		if (point == "commit sent") != (err == nil) || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %q: %v", point, err)
		}
	}
	all, err := w.Positions(context.Background())
	if err != nil || all[tp0] != 1 {
		t.Errorf("the position is %v, %v", all, err)
	}
}

// Lanes write at the same time, each its own keys, and in the end everything is there once. A claim in between costs a lane nothing but
// the batch in hand.
func TestLanesWriteAtTheSameTime(t *testing.T) {
	t.Parallel()
	second := declared{entity: "line", topic: orders.topic, digest: "1", columns: orders.columns}
	cfg := Config{URL: server(t), Projections: []fold.Projection{orders, second}, Connections: 3}
	w := openAt(t, cfg)
	const lanes, batches, size = 6, 8, 50
	var all sync.WaitGroup
	for lane := range int32(lanes) {
		all.Go(func() {
			tp := consumers.TopicPartition{Topic: orders.topic, Partition: lane}
			c, err := w.Claim(context.Background(), tp)
			for n := int64(0); n < batches && err == nil; n++ {
				b := fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: n * size, Next: (n + 1) * size, Changes: map[string][]fold.Change{}}
				for i := range int64(size) {
					one := put("order", tp, c.Epoch, n*size+i, fmt.Sprintf("%03d-%d", i, lane), "x", nil, nil, nil, n)
					b.Events = append(b.Events, one.Events...)
					b.Changes["order"] = append(b.Changes["order"], one.Changes["order"]...)
					b.Changes["line"] = append(b.Changes["line"], one.Changes["order"]...)
				}
				if _, err = w.Load(context.Background(), "line", []string{b.Changes["line"][0].Key}); err == nil {
					err = w.Commit(context.Background(), b)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := one[string](t, connect(t, cfg.URL), `SELECT count(*) || ' ' || min("group") || ' ' || (SELECT count(*) FROM silver.line) || ' ' ||
		(SELECT count(DISTINCT (partition, "offset")) || ' ' || count(*) FROM bronze.events) FROM silver."order"`)
	if want := fmt.Sprint(lanes*size, " ", batches-1, " ", lanes*size, " ", lanes*batches*size, " ", lanes*batches*size); got != want {
		t.Errorf("orders, least, lines, events are %s, want %s", got, want)
	}
}

// The server is killed in mid-commit and comes back: what was acknowledged is there, and lanes go on.
func TestAServerThatIsKilledComesBack(t *testing.T) {
	t.Parallel()
	pg := harness.PostgresServer(t, harness.PostgresOptions{})
	db := pg.Database(t)
	w := openAt(t, Config{URL: db.DSN, Projections: []fold.Projection{orders}})
	c := claim(t, w, tp0)
	commit(t, w, put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil))
	entered, resume := stopAt(w, "before commit")
	next := put("order", tp0, c.Epoch, 1, "k", "y", nil, nil, nil, nil)
	done := committing(w, next)
	<-entered
	pg.CrashStop(t)
	resume <- nil
	if err := <-done; err == nil || consumers.Classify(err) != consumers.Transient {
		t.Errorf("the commit: %v", err)
	}
	w.hook = nil
	if err := w.Commit(context.Background(), next); err == nil || consumers.Classify(err) != consumers.Transient {
		t.Errorf("while the server is away: %v", err)
	}
	pg.Start(t)
	commit(t, w, next)
	if got := one[string](t, connect(t, db.DSN), `SELECT status || _version FROM silver."order"`); got != "y2" {
		t.Errorf("the state is %s", got)
	}
}
