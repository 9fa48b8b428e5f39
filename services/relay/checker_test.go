package relay_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/schemas/avro"
)

// load is what writers do: transactions of one to three events, each counting its key under a row lock, with early xids,
// savepoints and rollbacks.
type load struct {
	writers, transactions, keys int
	seed                        uint64
	pause                       time.Duration // the longest pause within a transaction
}

// write runs the load to its end.
func (r *rig) write(l load) {
	r.t.Helper()
	r.t.Logf("seed %d", l.seed)
	r.exec(`insert into agg select 'k' || g, 0 from generate_series(0, $1 - 1) g on conflict do nothing`, l.keys)
	var all sync.WaitGroup
	errs := make(chan error, l.writers)
	for w := range l.writers {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(l.seed, uint64(w)))
			for range l.transactions {
				if err := r.transaction(r.t.Context(), l, rnd); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		r.t.Error(err)
	}
}

func (r *rig) transaction(ctx context.Context, l load, rnd *rand.Rand) error {
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if rnd.IntN(3) == 0 { // a low xid, long before the first row
		if _, err := tx.Exec(ctx, `select pg_current_xact_id(), pg_sleep($1)`, rnd.Float64()*l.pause.Seconds()); err != nil {
			return err
		}
	}
	if rnd.IntN(5) == 0 { // a savepoint that is rolled back
		sub, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if err := r.out.Write(ctx, sub, counted("ghost", -1)); err != nil {
			return err
		}
		if err := sub.Rollback(ctx); err != nil {
			return err
		}
	}
	key := "k" + strconv.Itoa(rnd.IntN(l.keys)) // one key, so that writers cannot deadlock
	for range 1 + rnd.IntN(3) {
		if err := r.count(ctx, tx, key, rnd); err != nil {
			return err
		}
	}
	if rnd.IntN(10) == 0 {
		return nil // rolled back
	}
	return tx.Commit(ctx)
}

// count writes the key's next event, as Avro or as JSON.
func (r *rig) count(ctx context.Context, tx pgx.Tx, key string, rnd *rand.Rand) error {
	var n int64
	if err := tx.QueryRow(ctx, `update agg set n = n + 1 where key = $1 returning n`, key).Scan(&n); err != nil {
		return err
	}
	if rnd.IntN(4) == 0 {
		_, err := tx.Exec(ctx, `select outbox.emit('test.Counted', $1, jsonb_build_object('key', $1::text, 'n', $2::bigint))`, key, n)
		return err
	}
	return r.out.Write(ctx, tx, counted(key, n))
}

func counted(key string, n int64) outbox.Event {
	return outbox.Record{Type: "test.Counted", Fields: map[string]any{"key": key, "n": n}}
}

// truth is what the outbox holds: event ids.
func (r *rig) truth() map[string]bool { return r.idsIn("outbox.event") }

func (r *rig) idsIn(table string) map[string]bool {
	r.t.Helper()
	rows, err := r.pool.Query(r.t.Context(), `select event_id::text from `+table)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	all := make(map[string]bool, len(ids))
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// checkPublished holds the topic against the table: every event once, keys in order, versions without gap.
func (r *rig) checkPublished() {
	r.t.Helper()
	r.checkAgainst(r.truth())
}

// checkAgainst holds the topic against what was committed.
func (r *rig) checkAgainst(truth map[string]bool) {
	r.t.Helper()
	records := r.committed(r.topic)
	codec, err := avro.New(countedSchema(r.topic))
	if err != nil {
		r.t.Fatal(err)
	}
	c := check{t: r.t, truth: truth, seen: map[string]bool{}, keys: map[string]int64{}, homes: map[string]int32{}, seqs: map[int64]bool{}, last: map[int32]int64{}}
	for _, rec := range records {
		c.record(rec, codec)
	}
	for id := range c.truth {
		if !c.seen[id] {
			c.missing++
		}
	}
	for seq := int64(1); seq <= int64(len(c.seqs)); seq++ {
		if !c.seqs[seq] {
			r.t.Errorf("versions 1 to %d have a gap at %d", len(c.seqs), seq)
			break
		}
	}
	if c.missing+c.twice+c.ghosts+c.inversions > 0 {
		r.t.Errorf("of %d committed events %d are missing, %d came twice, %d were never committed, %d broke the order of their key",
			len(c.truth), c.missing, c.twice, c.ghosts, c.inversions)
	}
	r.t.Logf("%d events committed, %d in the topic", len(c.truth), len(records))
}

type check struct {
	t                                  *testing.T
	truth, seen                        map[string]bool
	keys                               map[string]int64 // last n
	homes                              map[string]int32 // partition
	seqs                               map[int64]bool
	last                               map[int32]int64 // last seq
	missing, twice, ghosts, inversions int
}

func (c *check) record(rec *kgo.Record, codec *avro.Codec) {
	h := headers(rec)
	switch id := h["ce_id"]; {
	case c.seen[id]:
		c.twice++
	case !c.truth[id]:
		c.ghosts++
	default:
		c.seen[id] = true
	}
	seq, err := strconv.ParseInt(h["millrace-seq"], 10, 64)
	if err != nil || c.seqs[seq] || seq <= c.last[rec.Partition] {
		c.t.Errorf("partition %d, offset %d: version %q after %d: %v", rec.Partition, rec.Offset, h["millrace-seq"], c.last[rec.Partition], err)
	}
	c.seqs[seq], c.last[rec.Partition] = true, seq
	_, payload, err := avro.SplitFrame(rec.Value)
	if err != nil {
		c.t.Fatal(err)
	}
	fields, err := codec.Decode(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	key := string(rec.Key)
	if home, ok := c.homes[key]; ok && home != rec.Partition || fields["key"] != key {
		c.t.Errorf("key %s in partitions %d and %d, in the value %v", key, home, rec.Partition, fields["key"])
	}
	c.homes[key] = rec.Partition
	n := fields["n"].(int64)
	if n != c.keys[key]+1 {
		c.inversions++
	}
	c.keys[key] = n
}

func headers(rec *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range rec.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

func (r *rig) rows() int64 {
	r.t.Helper()
	var n int64
	if err := r.pool.QueryRow(r.t.Context(), `select count(*) from outbox.event`).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}
