package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/test/harness"
)

// ledger is the consumer that somebody writes who has a database: sums by key, and beside them who owns which partition and how far it is. This is all
// that is needed for promise 4.
type ledger struct {
	db     *pgxpool.Pool
	epochs chan map[consumers.TopicPartition]int64 // of this process's claims; holds one map
}

const ledgerTables = `CREATE TABLE sums (key text PRIMARY KEY, sum bigint NOT NULL, events bigint NOT NULL);
CREATE TABLE positions (topic text, partition int, epoch bigint NOT NULL, next bigint NOT NULL, PRIMARY KEY (topic, partition))`

// Claim raises the epoch, so that an owner that was replaced finds another one than its own.
func (l *ledger) Claim(ctx context.Context, tp consumers.TopicPartition) (next int64, err error) {
	epochs := <-l.epochs
	defer func() { l.epochs <- epochs }()
	var epoch int64
	err = l.db.QueryRow(ctx, `INSERT INTO positions AS p VALUES ($1, $2, 1, -1) ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1
		RETURNING epoch, next`, tp.Topic, tp.Partition).Scan(&epoch, &next)
	epochs[tp] = epoch
	return next, err
}

// Process adds a batch and moves the position in one transaction.
func (l *ledger) Process(ctx context.Context, b consumers.Batch) error {
	epochs := <-l.epochs
	epoch := epochs[b.TopicPartition]
	l.epochs <- epochs
	return pgx.BeginFunc(ctx, l.db, func(tx pgx.Tx) error {
		moved, err := tx.Exec(ctx, `UPDATE positions SET next = $4 WHERE topic = $1 AND partition = $2 AND epoch = $3 AND next IN (-1, $5)`,
			b.Topic, b.Partition, epoch, b.Next, b.From)
		if err == nil && moved.RowsAffected() == 0 {
			return consumers.ErrFenced // another owner; or the batch is in already, and the answer got lost
		}
		for i := 0; i < len(b.Events) && err == nil; i++ {
			ev := &b.Events[i] // one with Err belongs to a consumers.DeadLetterProducer
			_, err = tx.Exec(ctx, `INSERT INTO sums AS s VALUES ($1, $2, 1) ON CONFLICT (key) DO UPDATE SET sum = s.sum + excluded.sum, events = s.events + 1`,
				ev.Key, ev.Fields()["amount"])
		}
		return err
	})
}

func (l *ledger) Release(context.Context, consumers.TopicPartition) {}

// Promise 4: exactly once in effect, in a consumer of twenty lines: processes come and go, one fails in the middle of its batches, and each event
// is counted once.
func TestAConsumerOfTwentyLinesCountsEachEventOnce(t *testing.T) {
	k, pg := harness.Kafka(t), harness.Postgres(t)
	t.Parallel()
	r := newRig(t, k.Brokers, k.NewTopic(t, 3))
	db := pg.Pool(t)
	if _, err := db.Exec(t.Context(), ledgerTables); err != nil {
		t.Fatal(err)
	}
	begin := func(spoil func(*failing)) *running {
		l := &ledger{db: db, epochs: make(chan map[consumers.TopicPartition]int64, 1)}
		l.epochs <- map[consumers.TopicPartition]int64{}
		p := &failing{ledger: l}
		if spoil != nil {
			spoil(p)
		}
		cfg := r.config()
		cfg.BatchEvents = 40
		return start(t, cfg, p)
	}
	r.fill(600, 17)
	first := begin(func(p *failing) { p.every = 3 })
	counted(t, r, db, 200)
	second := begin(nil)
	r.fill(600, 17)
	counted(t, r, db, 700)
	if err := first.end(); err != nil {
		t.Error(err)
	}
	third := begin(nil)
	r.fill(300, 17)
	counted(t, r, db, 1500)
	if err := second.end(); err != nil {
		t.Error(err)
	}
	if err := third.end(); err != nil {
		t.Error(err)
	}
	rows, err := db.Query(t.Context(), `SELECT key, sum FROM sums`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	var key string
	var sum int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &sum}, func() error { got[key] = sum; return nil }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, r.sums) {
		t.Errorf("sums are %v, want %v", got, r.sums)
	}
}

// counted waits until so many events are counted, and fails the test if there are ever more than were written.
func counted(t *testing.T, r *rig, db *pgxpool.Pool, least int64) {
	t.Helper()
	eventually(t, "events to be counted", func() error {
		var n int64
		if err := db.QueryRow(t.Context(), `SELECT coalesce(sum(events), 0) FROM sums`).Scan(&n); err != nil {
			return err
		}
		if n > r.total {
			t.Fatalf("%d events are counted, %d were written", n, r.total)
		}
		if n < least {
			return fmt.Errorf("%d of %d", n, least)
		}
		return nil
	})
}

// failing loses the answer to every so many batches, after they were committed: the library tries them again.
type failing struct {
	*ledger
	every int64
	n     atomic.Int64
}

func (f *failing) Process(ctx context.Context, b consumers.Batch) error {
	if err := f.ledger.Process(ctx, b); err != nil {
		return err
	}
	if n := f.n.Add(1); f.every > 0 && n%f.every == 0 {
		return errors.New("the connection is lost")
	}
	return nil
}
