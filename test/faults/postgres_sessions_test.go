package faults

import (
	"testing"
	"time"
)

// Promises 1 to 3: an administrator ends the relay's sessions, each in turn and then any of them at any time. The relay opens another
// and goes on.
func TestPromise3ASessionOfTheRelayIsTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20", "retention: {age: 24h}"}})
	r := w.start("relay")
	stop := w.writing(3, 10*time.Millisecond)
	r.until("to be at work", func(s report) bool { return leads(s) && s.T > 4 })
	for _, role := range []string{"lead", "poll", "requests", "watch", "retain"} {
		ended := session{role, w.session(role, 0)}
		w.terminate(ended)
		w.session(role, ended.pid)
		r.until("to publish after the end of the session to "+role, published(w.log.events()))
	}
	before := r.ask().Restarts
	const times = 25
	for range times {
		time.Sleep(time.Duration(w.rng.Int64N(int64(200 * time.Millisecond)))) // the moment is to be random
		if all := w.sessions(); len(all) > 0 {
			w.terminate(all[w.rng.IntN(len(all))])
		}
	}
	stop()
	w.untilPublished()
	restarts := r.ask().Restarts - before
	w.finish()
	t.Logf("%d sessions ended at random: %d restarts", times, restarts)
}
