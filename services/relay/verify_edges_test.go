package relay_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// plantMissing inserts rows that the cursor counts and the relay never sent.
func (r *rig) plantMissing(key string, occurred string) {
	r.t.Helper()
	r.exec(`insert into outbox.event (xid, topic, key, type, schema_fp, body, occurred_at) select '3', $1, $2, 'test.Counted', fingerprint, '{"key": "x", "n": 1}', `+occurred+`
		from outbox.schema where name = 'test.Counted'`, r.topic, key)
}

// Where retention has taken the first records of a topic, rows of that time are not missed. Later ones are.
func TestVerifyWhereATopicHasForgotten(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		for n := range 30 {
			r.exec(`insert into outbox.event (topic, key, type, schema_fp, body, occurred_at) select $1, $2, 'test.Counted', fingerprint, jsonb_build_object('key', 'k', 'n', 1),
				now() - interval '3 hours' from outbox.schema where name = 'test.Counted'`, r.topic, fmt.Sprint("k", n))
		}
		run.untilSeq(30)
		for n := range int64(20) {
			r.emit(fmt.Sprint("later", n), n)
		}
		run.untilSeq(50)
		run.stop()
		r.settled()
		r.stableEnds(t.Context(), r.topic)
		if v := r.differs("before"); v.Rows != 50 || v.BeyondTopic != 0 {
			t.Errorf("%+v", v)
		}
		offsets := kadm.Offsets{}
		for p := range r.stableEnds(t.Context(), r.topic) {
			offsets.Add(kadm.Offset{Topic: r.topic, Partition: p, At: 3})
		}
		if _, err := r.admin().DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		if v := r.differs("when records are gone"); v.Rows != 20 || v.Records != 20 || v.BeyondTopic != 30 {
			t.Errorf("%+v", v)
		}
		r.plantMissing("lost", "now()")
		r.plantMissing("long gone", "now() - interval '3 hours'")
		r.differs("and one is lost", "missing of lost")
	})
}

// Records of rows that have left the outbox are not unknown. Those of later rows are, and old rows that are still there are missed.
func TestVerifyWhereTheOutboxHasForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := range int64(30) {
		r.emit(fmt.Sprint("k", n%5), n)
	}
	run.untilSeq(30)
	r.exec(`select outbox.turn_ring(true)`)
	r.exec(`update outbox.leaf set entered_at = entered_at - interval '2 hours', left_at = left_at - interval '2 hours'`) // as if that had been a while ago
	r.exec(`insert into outbox.event (topic, key, type, schema_fp, body, occurred_at) select $1, 'old', 'test.Counted', fingerprint, jsonb_build_object('key', 'old', 'n', 1),
		now() - interval '3 days' from outbox.schema where name = 'test.Counted'`, r.topic)
	for n := range int64(10) {
		r.emit(fmt.Sprint("k", n%5), 30+n)
	}
	run.untilSeq(41)
	r.exec(`update outbox.event set occurred_at = occurred_at - interval '3 hours' where id < 1000`)
	r.exec(`select outbox.empty_leaf(0, pg_current_snapshot(), now() + interval '1 minute')`)
	run.stop()
	r.settled()
	// The records of the rows that left are dated before that.
	r.exec(`update outbox.leaf set entered_at = clock_timestamp() where leaf = 1`)
	if v := r.differs("when rows have left"); v.Rows != 11 || v.Records != 11 || v.BeyondOutbox != 30 || v.Floor != 1<<32 {
		t.Errorf("%+v", v)
	}
	r.plantMissing("lost", "now() - interval '3 days'")
	r.differs("an old one is lost", "missing of lost")
	r.exec(`delete from outbox.event where key in ('lost', 'old')`)
	r.exec(`update outbox.leaf set entered_at = clock_timestamp() - interval '2 hours' where leaf = 1`)
	v := r.verified() // records are dated after rows could have left: each of an event that is not there is one too many
	if v.Differences != 30 || v.Kinds[relay.Unknown] != 30 || len(v.Events) != 20 {
		t.Errorf("%+v", v)
	}
}

// Rows that leave while they are compared are no difference: it is begun anew.
func TestVerifyWhileRowsLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(nil)
	for n := range int64(30) {
		r.emit(fmt.Sprint("k", n%5), n)
	}
	run.untilSeq(30)
	var leave sync.Once
	v := r.verified(func(_ *relay.Config, o *relay.VerifyOptions) {
		o.Progress = func(p relay.Verifying) {
			if !strings.HasPrefix(p.Phase, "rows") {
				return
			}
			leave.Do(func() {
				r.exec(`select outbox.turn_ring(true)`)
				r.exec(`select outbox.empty_leaf(0, pg_current_snapshot(), now() + interval '1 minute')`)
			})
		}
	})
	if v.Differences != 0 || v.Rows != 0 || v.Floor != 1<<32 {
		t.Errorf("%+v", v)
	}
}

// What delivery at least once sent again is listed, and no difference; what it did not send is.
func TestVerifyAtLeastOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(atLeastOnce)
		for n := range int64(20) {
			r.emit(fmt.Sprint("k", n%5), n)
		}
		run.untilSeq(20)
		run.stop()
		all := r.committed(r.topic)
		var again []*kgo.Record
		for _, rec := range all[:7] {
			again = append(again, copyOf(rec, nil))
		}
		r.produce(again...)
		if v := r.differs("repeats"); v.Repeats != 7 || len(v.RepeatedAt) != 7 || v.Rows != 20 || v.Records != 20 {
			t.Errorf("%+v", v)
		}
		r.plantMissing("lost", "now()")
		r.differs("and one is lost", "missing of lost")
	})
}

// Promise 1 under way: whatever is written, parked and released meanwhile, nothing that is right is called a difference.
func TestPromise1VerifyOfWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.PageSize = 20 })
		r.write(load{writers: 2, transactions: 5, keys: 10, seed: 1})
		var writing sync.WaitGroup
		writing.Go(func() { r.write(load{writers: 6, transactions: 60, keys: 10, seed: 2, pause: 10 * time.Millisecond}) })
		wrong := func(n int) {
			for i := range 3 {
				r.unfit(fmt.Sprint("k", i), 1_000_000+int64(n))
			}
		}
		wrong(0)
		run.until("some to be parked", func(s relay.Status) bool { return s.Parked > 0 })
		mended, moving := false, int64(0)
		for n := range 12 {
			v := r.verified()
			moving += v.Moving + v.Later
			if v.Differences > 0 {
				t.Fatalf("round %d: %+v", n, v)
			}
			if n == 6 {
				r.mend()
				mended = true
			}
			if mended {
				r.release(relay.Selection{All: true})
			}
		}
		writing.Wait()
		r.release(relay.Selection{All: true})
		run.untilSeq(r.rows())
		r.settled()
		if v := r.differs("in the end"); v.Rows != r.rows() || v.Parked != 0 {
			t.Errorf("%+v", v)
		}
		t.Logf("%d events were left out because they were under way", moving)
	})
}
