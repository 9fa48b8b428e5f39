package relay_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/services/relay"
)

func atLeastOnce(c *relay.Config) { c.Delivery = relay.AtLeastOnce }

// brokerWithoutTransactions refuses whatever transactions need.
func brokerWithoutTransactions(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		init := req.(*kmsg.InitProducerIDRequest)
		if init.TransactionalID == nil {
			return nil, nil, false
		}
		resp := init.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		return resp, nil, true
	})
	return c.ListenAddrs()
}

// Promise 3 is not given up silently: a broker without transactions stops a relay that was not told to do without.
func TestPromise3WithoutTransactionsTheRelayStops(t *testing.T) {
	t.Parallel()
	old := func(t *testing.T) []string { // so old that the client would go on without a producer id
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(int16(kmsg.InitProducerID), -1)
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.MaxVersions(versions))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c.ListenAddrs()
	}
	for name, brokers := range map[string]func(*testing.T) []string{"refused": brokerWithoutTransactions, "unknown": old} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, brokers(t), &memoryRegistry{})
			r.emit("k", 1)
			err := r.stopsWith(relay.ErrNoTransactions)
			var stop *relay.StopError
			if !errors.As(err, &stop) || !strings.Contains(stop.Remedy, "delivery: at-least-once") {
				t.Errorf("no remedy in %v", err)
			}
			run := r.run(atLeastOnce) // as it says
			run.untilSeq(1)
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			r.checkRepeats(0)
		})
	}
}

// Without the permission to write idempotently the order is kept all the same.
func TestAtLeastOnceWithoutIdempotentWrites(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp, nil, true
	})
	r := newRig(t, c.ListenAddrs(), &memoryRegistry{})
	r.write(load{writers: 4, transactions: 50, keys: 5, seed: 11})
	run := r.run(atLeastOnce)
	run.untilSeq(r.rows())
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkRepeats(0)
}

// Promise 3, at least once: killed at every point, nothing is lost, what comes again has the same version, and first appearances
// are in order.
func TestPromise3AtLeastOnceKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		r.write(load{writers: 8, transactions: 100, keys: 10, seed: 12})
		repeats := 0
		for _, at := range []struct {
			point string
			times int64
		}{
			{relay.PointFirst, 1}, {relay.PointClaimed, 1}, {relay.PointIntending, 1}, {relay.PointIntended, 1}, {relay.PointProduced, 1},
			{relay.PointCommitting, 1}, {relay.PointCommitted, 1}, {relay.PointProduced, 3}, {relay.PointIntended, 4},
			{relay.PointCommitting, 5}, {relay.PointIntending, 6}, {relay.PointProduced, 1}, {relay.PointCommitted, 7}, {relay.PointProduced, 2},
		} {
			r.killAtPoint(at.point, at.times, atLeastOnce)
			if at.point == relay.PointProduced || at.point == relay.PointCommitting {
				repeats++
			}
			r.write(load{writers: 3, transactions: 3, keys: 10, seed: uint64(100 + repeats)}) // rows that are visible by now
		}
		run := r.run(atLeastOnce)
		run.untilSeq(r.rows())
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		r.checkRepeats(repeats)
	})
}

// A page of several batches to a partition, killed when some are written and one is on its way.
func TestPromise3AtLeastOnceKilledHalfway(t *testing.T) {
	t.Parallel()
	c := brokerOfNames(t)
	r := newRig(t, c.ListenAddrs(), &memoryRegistry{})
	small := func(c *relay.Config) {
		atLeastOnce(c)
		c.PageSize = 500
		c.Topics = map[string]relay.Topic{r.topic: {Partitions: 2, Configs: map[string]string{"max.message.bytes": "4000"}}}
	}
	r.write(load{writers: 4, transactions: 100, keys: 5, seed: 13})
	for n := range 3 {
		r.killAtBatch(c, 2+n, small)
		r.write(load{writers: 4, transactions: 10, keys: 5, seed: uint64(14 + n)})
	}
	run := r.run(small)
	run.untilSeq(r.rows())
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkRepeats(3)
}

// brokerOfNames is a broker to which batches are sent under the name of their topic.
func brokerOfNames(t *testing.T) *kfake.Cluster {
	t.Helper()
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), 12)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.MaxVersions(versions))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// killAtBatch runs a relay until the nth request with events has come to the broker, which looks at it when the relay is dead.
func (r *rig) killAtBatch(c *kfake.Cluster, nth int, change func(*relay.Config)) {
	r.t.Helper()
	reached, dead := make(chan struct{}), make(chan struct{})
	come := 0
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if !slices.ContainsFunc(req.(*kmsg.ProduceRequest).Topics, func(t kmsg.ProduceRequestTopic) bool { return t.Topic == r.topic }) {
			return nil, nil, false
		}
		if come++; come == nth {
			close(reached)
			<-dead
			c.DropControl()
		}
		return nil, nil, false
	})
	run := r.run(func(c *relay.Config) { change(c); c.StopTimeout = time.Nanosecond })
	select {
	case <-reached:
	case <-run.ended:
		r.t.Fatalf("the relay ended before it sent batch %d: %v", nth, run.err)
	case <-time.After(60 * time.Second):
		r.t.Fatalf("the relay did not send batch %d: %+v", nth, run.Status())
	}
	run.cancel()
	close(dead)
	_ = run.wait()
}

// A leader that sleeps past a takeover and is not told, at every point of a page: it sends nothing that its successor sends with
// another version, and its late records on the cursor topic are not believed.
func TestPromise3AtLeastOnceAZombieSendsNothingNew(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		n := int64(0)
		for _, point := range []string{relay.PointIntending, relay.PointIntended, relay.PointProduced, relay.PointCommitting} {
			zombie := r.heldAsZombie(point, n)
			n += 2
			other := r.run(func(c *relay.Config) { atLeastOnce(c); c.PageSize = 1 }, (*relay.Relay).LeadWithoutElection)
			r.emit("early", n/2) // the successor's window is another
			other.untilSeq(n)
			zombie.release()
			zombie.until("a new start", func(s relay.Status) bool { return s.Restarts > 0 })
			if err := zombie.stop(); err != nil {
				t.Fatal(err)
			}
			if err := other.stop(); err != nil {
				t.Fatal(err)
			}
		}
		run := r.run(atLeastOnce)
		r.emit("late", 1)
		run.untilSeq(n + 1)
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		r.checkRepeats(1)
	})
}

// heldAsZombie returns a relay that waits at a point of the page that holds the next event of key "k".
func (r *rig) heldAsZombie(point string, seq int64) *held {
	r.t.Helper()
	at, wake := make(chan struct{}), make(chan struct{})
	h := &held{release: sync.OnceFunc(func() { close(wake) })}
	var once sync.Once
	h.running = r.run(atLeastOnce, func(made *relay.Relay) {
		made.LeadWithoutElection()
		made.AtPoints(func(here string) {
			if here == point && made.Status().T > 0 { // not over the first cursor
				once.Do(func() { close(at); <-wake })
			}
		})
	})
	r.t.Cleanup(h.release)
	h.until("it to lead", func(s relay.Status) bool { return s.State == relay.StateLeading && s.T > 0 && s.Seq == seq })
	r.emit("k", seq/2+1)
	select {
	case <-at:
	case <-time.After(60 * time.Second):
		r.t.Fatalf("the relay never was at %s", point)
	}
	return h
}

// A leader that has lost its lock and does not know it sends nothing.
func TestAtLeastOnceNothingIsSentWithoutTheLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	lost := make(chan struct{})
	run := r.run(atLeastOnce, func(made *relay.Relay) {
		made.LeadWithoutElectionWhile(func() error {
			select {
			case <-lost:
				return errors.New("the lock is lost")
			default:
				return nil
			}
		})
	})
	run.until("it to lead", func(s relay.Status) bool { return s.T > 0 })
	close(lost)
	r.emit("k", 1)
	run.until("a new start", func(s relay.Status) bool { return s.Restarts > 0 })
	if got := r.committed(r.topic); len(got) != 0 {
		t.Errorf("%d events were sent", len(got))
	}
}

// Two relays that both believe to lead take the cursor from each other, over and over.
func TestPromise3AtLeastOnceTwoRelaysAgreeOnVersions(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		small := func(c *relay.Config) { atLeastOnce(c); c.PageSize = 20 }
		a, b := r.run(small, (*relay.Relay).LeadWithoutElection), r.run(small, (*relay.Relay).LeadWithoutElection)
		r.write(load{writers: 8, transactions: 80, keys: 10, seed: 15, pause: 10 * time.Millisecond})
		eventually(t, "the relays to meet", func() error {
			if a.Status().Restarts+b.Status().Restarts == 0 {
				return errNotYet(a.Status(), b.Status())
			}
			return nil
		})
		// On a slow machine neither gets from its claim to its next page before the other claims: one gives up.
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		b.untilSeq(r.rows())
		t.Logf("restarts: a %d, b %d", a.Status().Restarts, b.Status().Restarts)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		r.checkRepeats(0)
	})
}

// The way of delivery can change between two starts, also in the middle of a page.
func TestPromise3DeliveryCanChange(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		exactly := func(*relay.Config) {}
		repeats := 0
		for n, round := range []struct {
			change func(*relay.Config)
			point  string
		}{
			{exactly, relay.PointProduced}, {atLeastOnce, relay.PointProduced}, {exactly, relay.PointClaimed}, {exactly, relay.PointProduced},
			{exactly, relay.PointCommitted}, {atLeastOnce, relay.PointIntended}, {exactly, relay.PointCommitting}, {exactly, relay.PointCommitted},
			{atLeastOnce, relay.PointClaimed}, {atLeastOnce, relay.PointCommitting}, {atLeastOnce, relay.PointIntended}, {exactly, relay.PointCommitted},
		} {
			r.write(load{writers: 4, transactions: 20, keys: 10, seed: uint64(30 + n)})
			r.killAtPoint(round.point, 1, round.change)
		}
		repeats = 2 // the two that were killed with their events sent
		run := r.run(exactly)
		run.untilSeq(r.rows())
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		r.checkRepeats(repeats)
	})
}

// killAtPoint is killAt with another configuration.
func (r *rig) killAtPoint(point string, times int64, change func(*relay.Config)) {
	r.t.Helper()
	var mu sync.Mutex
	passed := int64(0)
	reached, dead := make(chan struct{}), make(chan struct{})
	run := r.run(func(c *relay.Config) {
		c.PageSize = 7
		change(c)
		c.StopTimeout = time.Nanosecond
	}, func(made *relay.Relay) {
		made.AtPoints(func(at string) {
			if at != point {
				return
			}
			mu.Lock()
			passed++
			here := passed == times
			mu.Unlock()
			if here {
				close(reached)
				<-dead
			}
		})
	})
	select {
	case <-reached:
	case <-run.ended:
		r.t.Fatalf("the relay ended before it was %d times at %s: %v", times, point, run.err)
	case <-time.After(60 * time.Second):
		r.t.Fatalf("the relay was not %d times at %s: %+v", times, point, run.Status())
	}
	run.cancel()
	close(dead)
	_ = run.wait()
}

// checkRepeats holds the topic against the table: every event at least once, repeats with the version of the first, first
// appearances of a key in order, versions without gap. At least so many events must have come again.
func (r *rig) checkRepeats(atLeast int) {
	r.t.Helper()
	records := r.committed(r.topic)
	codec, err := avro.New(countedSchema(r.topic))
	if err != nil {
		r.t.Fatal(err)
	}
	truth, seqs, events, last := r.truth(), map[string]int64{}, map[int64]string{}, map[string]int64{}
	repeats, bad := 0, []string{}
	for _, rec := range records {
		h := headers(rec)
		id := h["ce_id"]
		seq, err := strconv.ParseInt(h["millrace-seq"], 10, 64)
		if err != nil || !truth[id] {
			bad = append(bad, fmt.Sprintf("event %s: version %q, committed %v", id, h["millrace-seq"], truth[id]))
		}
		if before, again := seqs[id]; again {
			repeats++
			if before != seq {
				bad = append(bad, fmt.Sprintf("event %s came with version %d and with %d", id, before, seq))
			}
			continue
		}
		if other, taken := events[seq]; taken {
			bad = append(bad, fmt.Sprintf("events %s and %s have version %d", other, id, seq))
		}
		seqs[id], events[seq] = seq, id
		if n := countOf(r.t, codec, rec); n != last[string(rec.Key)]+1 {
			bad = append(bad, fmt.Sprintf("key %s: event %d after %d", rec.Key, n, last[string(rec.Key)]))
		} else {
			last[string(rec.Key)] = n
		}
	}
	for seq := int64(1); seq <= int64(len(seqs)); seq++ {
		if _, ok := events[seq]; !ok {
			bad = append(bad, fmt.Sprintf("versions 1 to %d have a gap at %d", len(seqs), seq))
			break
		}
	}
	if len(seqs) != len(truth) || len(bad) > 0 {
		r.t.Errorf("%d events committed, %d in the topic; %d faults, the first: %s", len(truth), len(seqs), len(bad), strings.Join(bad[:min(5, len(bad))], "; "))
	}
	if repeats < atLeast {
		r.t.Errorf("%d events came again, at least %d should have: the test tests nothing", repeats, atLeast)
	}
	r.t.Logf("%d events committed, %d records, %d of them again", len(truth), len(records), repeats)
}

func countOf(t *testing.T, codec *avro.Codec, rec *kgo.Record) int64 {
	t.Helper()
	_, payload, err := avro.SplitFrame(rec.Value)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := codec.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	return fields["n"].(int64)
}

// A release that is killed in the middle, with other rows waiting by the time of the next start, gives each event one version, and the
// request is answered.
func TestPromise3AtLeastOnceAReleaseIsRepeatedTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	for _, key := range []string{"a", "b"} {
		r.unfit(key, 1)
		for n := int64(2); n <= 9; n++ {
			r.emit(key, n)
		}
	}
	run := r.run(atLeastOnce)
	run.until("them to be parked", func(s relay.Status) bool { return s.Parked == 18 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.mend()
	a := r.asker()
	id, err := a.Release(t.Context(), relay.Selection{All: true})
	for n, point := range []string{relay.PointIntended, relay.PointHalfway, relay.PointProduced} {
		r.killAtPoint(point, 1, atLeastOnce)
		r.emit("c", int64(n+1))
	}
	run = r.run(atLeastOnce)
	if got := r.answer(a)(id, err); got.Released != 18 {
		t.Errorf("%+v", got)
	}
	run.untilSeq(r.rows())
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkRepeats(7)
}
