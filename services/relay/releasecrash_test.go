package relay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
)

// A relay that dies at any point of a release, or after it and before its answer, leaves the rest to the next one: every
// event is published once, in order, and the request is answered with all of it.
func TestPromise7AReleaseSurvivesACrashInTheMiddle(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		var seq int64
		for _, point := range []string{relay.PointProduced, relay.PointCommitting, relay.PointCommitted, relay.PointDone} {
			seq = r.crashInRelease(point, seq)
		}
		r.checkPublished()
	})
}

// crashInRelease parks a line of nine events, releases it in pages of two, and stops the relay for ever at the point: for the
// third time, but the request is answered once only.
func (r *rig) crashInRelease(point string, seq int64) int64 {
	r.t.Helper()
	const events, page = 9, 2
	key := "k" + point
	small := func(c *relay.Config) { c.PageSize = page }
	times := 3
	if point == relay.PointDone {
		times = 1
	}
	victim, arm, dead := r.victim(small, point, times)
	schema := replaceDefault(countedSchema(r.topic), point) // that the outbox does not hold yet
	r.unfitPadded(schema, key, 1, "")
	for n := int64(2); n <= events; n++ {
		r.emit(key, n)
	}
	victim.until("the line to be parked", func(s relay.Status) bool { return s.Parked == events })
	r.writer(schema)
	arm()
	a := r.asker()
	id, err := a.Release(r.t.Context(), relay.Selection{All: true})
	if err != nil {
		r.t.Fatal(err)
	}
	dead()
	r.emit(key, events+1) // behind the line, if it is not released
	next := r.run(small, func(made *relay.Relay) { made.LeadWithoutElection() })
	got := r.answer(a)(id, nil)
	if got.Released != events && got.Released != events+1 || got.Stopped+got.Unknown != 0 || got.Refused != "" {
		r.t.Errorf("at %s: %+v", point, got)
	}
	seq += events + 1
	next.untilSeq(seq)
	if s := next.Status(); s.Parked != 0 || s.Seq != seq {
		r.t.Errorf("at %s: %+v, want seq %d", point, s, seq)
	}
	if err := next.stop(); err != nil {
		r.t.Fatal(err)
	}
	return seq
}

// victim runs a relay, without election, that stops for ever when it is at the point for the given time after arm was called; dead
// waits for this.
func (r *rig) victim(change func(*relay.Config), point string, times int) (run *running, arm, dead func()) {
	r.t.Helper()
	var mu sync.Mutex
	count, armed := 0, false
	there, never := make(chan struct{}), make(chan struct{})
	run = r.run(change, func(made *relay.Relay) {
		made.LeadWithoutElection()
		made.AtPoints(func(at string) {
			mu.Lock()
			if armed && at == point {
				count++
			}
			stop := armed && count == times && at == point
			mu.Unlock()
			if stop {
				close(there)
				<-never
			}
		})
	})
	r.t.Cleanup(func() { close(never) }) // before it is stopped
	arm = func() {
		mu.Lock()
		defer mu.Unlock()
		armed = true
	}
	return run, arm, func() {
		r.t.Helper()
		select {
		case <-there:
		case <-time.After(60 * time.Second):
			r.t.Fatalf("the relay never was at %s", point)
		}
	}
}

// A relay that dies between two pages of a discard: the next one drops the rest before it releases what is behind, for the parked
// topic alone says that the line may go.
func TestPromise7ADiscardSurvivesACrashInTheMiddle(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		small := func(c *relay.Config) { c.PageSize = 2 }
		victim, arm, dead := r.victim(small, relay.PointCommitted, 1)
		r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k"}`, nil)
		for n := int64(2); n <= 6; n++ {
			r.emit("k", n)
		}
		victim.until("the line to be parked", func(s relay.Status) bool { return s.Parked == 6 })
		ids := r.parkedIDs("k")
		arm()
		a := r.asker()
		id, err := a.Discard(t.Context(), ids[:5], false, "")
		if err != nil {
			t.Fatal(err)
		}
		dead()
		next := r.run(small, func(made *relay.Relay) { made.LeadWithoutElection() })
		if got := r.answer(a)(id, nil); got.Discarded != 5 || got.Released != 1 || got.Unknown+got.Stopped != 0 {
			t.Errorf("%+v", got)
		}
		if all := r.committed(r.topic); len(all) != 1 || headers(all[0])["ce_id"] != ids[5].String() {
			t.Errorf("%d records in the topic", len(all))
		}
		if s := next.Status(); s.Parked != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// The writers of a key go on while its line, of many pages, is released, and so do other keys: the order holds, and the line ends.
func TestPromise2NewEventsQueueBehindALineThatIsReleased(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.PageSize = 5 })
		r.unfit("k0", 1)
		r.exec(`insert into agg values ('k0', 1)`)
		for range 4 {
			r.write(load{writers: 1, transactions: 60, keys: 1, seed: 7})
		}
		run.until("a long line", func(s relay.Status) bool { return s.Parked > 200 })
		r.mend()
		var writing sync.WaitGroup
		writing.Go(func() { r.write(load{writers: 4, transactions: 100, keys: 2, seed: 8}) })
		got := r.release(relay.Selection{Topic: r.topic, Key: ptr("k0")})
		writing.Wait()
		if got.Released < 200 || got.Stopped != 0 {
			t.Errorf("%+v", got)
		}
		r.release(relay.Selection{All: true}) // what met the memory of a missing schema right after it was mended
		run.untilSeq(r.rows())
		if s := run.Status(); s.Parked != 0 || s.Restarts != 0 {
			t.Errorf("%+v", s)
		}
		r.checkPublished()
		t.Logf("%d events released while %d were written", got.Released, r.rows())
	})
}
