package relay_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// A relay that sleeps past a takeover, with a transaction whose records are all acknowledged, commits nothing when it
// wakes, and goes on from the cursor that the other left.
func TestPromise3AZombieCommitsNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		var seq int64
		for _, point := range []string{relay.PointProduced, relay.PointCommitting} {
			asleep, wake := make(chan struct{}), make(chan struct{})
			var once sync.Once
			zombie := r.run(nil, func(made *relay.Relay) {
				made.LeadWithoutElection()
				made.AtPoints(func(at string) {
					if at == point && made.Status().T > 0 { // not over the first cursor
						once.Do(func() { close(asleep); <-wake })
					}
				})
			})
			zombie.until("it to lead", func(s relay.Status) bool { return s.T > 0 })
			r.emit("k", seq+1)
			select {
			case <-asleep:
			case <-time.After(30 * time.Second):
				t.Fatalf("the relay never was at %s", point)
			}
			other := r.run(nil, func(made *relay.Relay) { made.LeadWithoutElection() })
			other.untilSeq(seq + 1)
			if err := other.stop(); err != nil {
				t.Fatal(err)
			}
			close(wake)
			zombie.until("a new start", func(s relay.Status) bool { return s.Restarts > 0 })
			r.emit("k", seq+2)
			seq += 2
			zombie.untilSeq(seq)
			if err := zombie.stop(); err != nil {
				t.Fatal(err)
			}
		}
		r.checkPublished()
	})
}

// Promise 3: nor does it commit anything when it wakes after its successor has read the cursor, and before that publishes: nobody else
// has used its id since.
func TestPromise3AZombieThatWakesFirstCommitsNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		var seq int64
		for _, point := range []string{relay.PointProduced, relay.PointCommitting} {
			r.publishOne("k", seq+1, seq+1)
			zombie := r.heldWith(nil, point, 1, func() { r.emit("k", seq+2) })
			other := r.heldAt(relay.PointClaimed, 1)
			zombie.release()
			zombie.until("its commit to end", func(s relay.Status) bool { return s.Restarts > 0 || s.Seq > seq+1 })
			if zombie.Status().Restarts == 0 {
				t.Errorf("at %s: it has committed", point)
			}
			other.release()
			seq += 2
			zombie.untilSeq(seq)
			other.untilSeq(seq)
			for _, run := range []*held{zombie, other} {
				if err := run.stop(); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.checkPublished()
	})
}

// Two relays each hold one of the two ids: the later one took both, then the earlier one, which had slept in between, took
// its second. Both read the same cursor. The id that the next transaction needs is one's alone.
func TestPromise3TwoHalfFencedRelaysNeverCommitTheSameTransaction(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		for n := range int64(4) { // both parities of t
			r.publishOne("k", 2*n+1, 2*n+1)
			a := r.heldAt(relay.PointFence, 2)
			b := r.heldAt(relay.PointFenced, 1)
			a.release()
			a.until("a to have taken its second id", func(relay.Status) bool { return a.passed(relay.PointFenced) })
			b.release()
			leads := func(s relay.Status) bool { return s.State == relay.StateLeading && s.Seq == 2*n+1 }
			a.until("a to lead", leads)
			b.until("b to lead", leads)
			r.emit("k", 2*n+2) // both see it, and try
			a.untilSeq(2*n + 2)
			b.untilSeq(2*n + 2)
			for _, run := range []*held{a, b} {
				if err := run.stop(); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.checkPublished()
		r.oneOfEach()
	})
}

// oneOfEach sees that no transaction was committed twice: each commits a cursor that counts it.
func (r *rig) oneOfEach() {
	r.t.Helper()
	last := int64(0)
	for _, rec := range r.committed(relay.CursorTopic(r.name)) {
		var cursor struct {
			T int64 `json:"t"`
		}
		if rec.Partition != 0 { // which holds no cursors
			continue
		}
		if err := json.Unmarshal(rec.Value, &cursor); err != nil {
			r.t.Fatalf("cursor at offset %d: %v", rec.Offset, err)
		}
		if cursor.T <= last {
			r.t.Errorf("transaction %d is committed, at offset %d, behind transaction %d", cursor.T, rec.Offset, last)
		}
		last = cursor.T
	}
	if last == 0 {
		r.t.Error("no cursor is committed")
	}
}

// Promise 3: the broker aborts a transaction that took too long, under a leader that still leads: nothing behind it is committed, and it
// is published again.
func TestPromise3ATransactionThatTheBrokerAbortedIsPublishedAgain(t *testing.T) {
	t.Parallel()
	r := realRig(t) // the one in this process takes its time to abort
	r.publishOne("k", 1, 1)
	h := r.heldWith(func(c *relay.Config) { c.TransactionTimeout, c.PublishTimeout = time.Second, 900*time.Millisecond },
		relay.PointProduced, 1, func() { r.emit("k", 2) })
	r.stableEnds(t.Context(), r.topic) // it is aborted
	if got := len(r.committed(r.topic)); got != 1 {
		t.Errorf("%d events are committed, want 1", got)
	}
	r.emit("k", 3)
	h.release()
	h.untilSeq(3)
	if h.Status().Restarts == 0 {
		t.Error("no start from the cursor is counted")
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkPublished()
}

// held is a relay that waits at a point until it is released.
type held struct {
	*running
	release func()
	mu      sync.Mutex // guards the following
	points  map[string]int
}

func (h *held) passed(point string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.points[point] > 0
}

// heldAt starts a relay, without election, and returns when it is at a point for the given time.
func (r *rig) heldAt(point string, times int) *held {
	r.t.Helper()
	return r.heldWith(nil, point, times, func() {})
}

// heldWith is heldAt with another configuration, and something to do once the relay is started.
func (r *rig) heldWith(change func(*relay.Config), point string, times int, do func()) *held {
	r.t.Helper()
	at, wake := make(chan struct{}), make(chan struct{})
	h := &held{release: sync.OnceFunc(func() { close(wake) }), points: map[string]int{}}
	h.running = r.run(change, func(made *relay.Relay) {
		made.LeadWithoutElection()
		made.AtPoints(func(here string) {
			h.mu.Lock()
			h.points[here]++
			stop := here == point && h.points[here] == times
			h.mu.Unlock()
			if stop {
				close(at)
				<-wake
			}
		})
	})
	r.t.Cleanup(h.release)
	do()
	select {
	case <-at:
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the relay never was at %s", point)
	}
	return h
}

// What is read at a start is final: while any transaction is open on the cursor topic, whoever's it is, the newest cursor
// may still be hidden.
func TestPromise3AStartWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.publishOne("k", 1, 1)
		records := r.committed(relay.CursorTopic(r.name))
		var newest *kgo.Record
		for _, rec := range records {
			if string(rec.Key) == "cursor" {
				newest = rec
			}
		}
		stranger := r.client(kgo.TransactionalID(r.name+"-stranger"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := stranger.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := regexp.MustCompile(`"seq":1\b`).ReplaceAll(newest.Value, []byte(`"seq":1000`))
		if err := stranger.ProduceSync(t.Context(), &kgo.Record{Topic: newest.Topic, Key: newest.Key, Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		run := r.run(nil)
		run.until("it to start", func(s relay.Status) bool { return s.State == relay.StateStarting })
		r.emit("k", 2)
		select {
		case <-time.After(time.Second):
		case <-run.ended:
			t.Fatal(run.err)
		}
		if s := run.Status(); s.State != relay.StateStarting || s.Seq != 0 {
			t.Errorf("it did not wait: %+v", s)
		}
		if err := stranger.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		run.untilSeq(1001)
	})
}

// Connections to Postgres that are cut, the leader's among them, cost time and nothing else.
func TestPromise13LostConnectionsToPostgres(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	small := func(c *relay.Config) { c.PageSize = 20 }
	a, b := r.run(small), r.run(small)
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for range 12 {
			select {
			case <-done:
				return
			case <-time.After(150 * time.Millisecond):
			}
			_, err := r.pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
				where application_name like $1 and random() < 0.5`, "millrace relay "+r.name+"%")
			if err != nil {
				t.Error(err)
			}
		}
	})
	r.write(load{writers: 6, transactions: 100, keys: 10, seed: 5, pause: 20 * time.Millisecond})
	close(done)
	cutting.Wait()
	rows := r.rows()
	eventually(t, "everything to be published", func() error {
		if a.Status().Seq >= rows || b.Status().Seq >= rows {
			return nil
		}
		return errNotYet(a.Status(), b.Status())
	})
	t.Logf("restarts: a %d, b %d", a.Status().Restarts, b.Status().Restarts)
	for _, run := range []*running{a, b} {
		if err := run.stop(); err != nil {
			t.Error(err)
		}
	}
	r.checkPublished()
}

// A database that is not fit is refused with the reason and the remedy.
func TestAnOutboxThatIsNotFitIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.exec("alter sequence outbox.event_id_seq cache 5")
	run := r.run(nil)
	if err := run.wait(); err == nil || !strings.Contains(err.Error(), "CACHE 1") {
		t.Errorf("%v", err)
	}
}

// The password of the database never shows, whatever goes wrong.
func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	run := r.run(func(c *relay.Config) { c.Postgres = "postgres://relay:hush@127.0.0.1:1/shop" })
	run.until("the trouble to show", func(s relay.Status) bool { return s.Reason != "" })
	if s := run.Status(); strings.Contains(s.Reason, "hush") || s.State != relay.StateStandby {
		t.Errorf("%+v", s)
	}
	if err := run.Ready(); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("ready: %v", err)
	}
}

// The backlog is counted in the table, not believed.
func TestTheBacklogIsCounted(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	reg.set(func(string, string) error { return errUnavailable })
	r := newRig(t, fakeBroker(t), reg)
	for n := range int64(7) {
		r.emit("k", n+1)
	}
	run := r.run(nil)
	run.until("a backlog of 7", func(s relay.Status) bool { return s.Backlog == 7 && !s.Oldest.IsZero() })
	reg.set(nil)
	run.until("no backlog", func(s relay.Status) bool { return s.Backlog == 0 && s.Oldest.IsZero() && s.Seq == 7 })
}

// A relay that was started before `millrace migrate up` says what it waits for, and publishes when it is there.
func TestTablesThatAreNotThereYetAreWaitedFor(t *testing.T) {
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.exec("alter schema outbox rename to not_yet")
	run := r.run(nil)
	eventually(t, "the relay says what it waits for", func() error {
		if err := run.Ready(); err == nil || !strings.Contains(err.Error(), "millrace migrate up") {
			return fmt.Errorf("ready: %v", err)
		}
		return nil
	})
	r.exec("alter schema not_yet rename to outbox")
	r.emit("k", 1)
	run.untilSeq(1)
}
