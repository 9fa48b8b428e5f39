package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// takeoverGoal is what a takeover is expected to take; what it took is logged, and only patience fails a test.
const takeoverGoal = 5 * time.Second

// Promise 3: a leader that is frozen past its lease, with a transaction at any stage or with nothing to do, loses its place within
// seconds. When it wakes it commits nothing, and stands by, without an end and without noise.
func TestPromise3AFrozenLeaderIsReplacedAndStepsDown(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"idle", "produced", "committing", "committed"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{})
			var env []string
			if point != "idle" {
				env = append(env, freezeAt(point, 4))
			}
			zombie := w.start("zombie", env...)
			zombie.until("to lead", leads)
			other := w.start("other")
			other.until("to stand by", standby)
			if point == "idle" {
				w.emit("k")
				zombie.until("to publish", published(1))
				zombie.process.Freeze(t)
			} else {
				w.untilFrozen(zombie)
			}
			began := time.Now()
			w.emit("k")
			other.until("to take over", published(w.log.events()))
			t.Logf("frozen at %s: the other publishes %v later (expected: under %v)", point, time.Since(began).Round(10*time.Millisecond), takeoverGoal)
			w.write(2, 20)
			said := len(zombie.process.Output())
			zombie.process.Thaw(t)
			zombie.until("to stand by", standby)
			w.write(2, 20)
			other.until("to go on", published(w.log.events()))
			w.finish()
			mustBeCalm(t, zombie.lines(said))
		})
	}
}

// Promise 3: nor does it commit anything when it wakes while its successor has read the cursor, and published nothing yet.
func TestPromise3AFrozenLeaderThatWakesFirstCommitsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	zombie := w.start("zombie", freezeAt("committing", 4))
	zombie.until("to lead", leads)
	w.untilFrozen(zombie)
	other := w.start("other", freezeAt("claimed", 1))
	other.waitPoint()
	zombie.process.Thaw(t)
	zombie.process.WaitLine(t, "lost its leadership", patience)
	other.process.Thaw(t) // within its own lease, if the machine is not too busy
	w.write(2, 20)
	w.finish()
}

// untilFrozen commits events one by one until the relay has frozen itself at its point.
func (w *world) untilFrozen(r *relay) {
	w.t.Helper()
	eventually(w.t, r.name+" to freeze", func() (bool, string) {
		if strings.Contains(r.process.Output(), "freeze point") {
			return true, ""
		}
		w.emit("k")
		return false, r.process.Output()
	})
}

// calmLines is how many lines a relay may print from waking to its end: that it has lost its place, and that it stops.
const calmLines = 6

// mustBeCalm fails the test if what a relay said shows an error or is more than an operator would read.
func mustBeCalm(t *testing.T, lines []string) {
	t.Helper()
	lost := 0
	for _, line := range lines {
		if strings.Contains(line, "lost its leadership") {
			lost++
		}
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			t.Errorf("it is no error to have been frozen: %s", line)
		}
	}
	if lost != 1 || len(lines) > calmLines {
		t.Errorf("%d lines after it woke, %d of them about the leadership:\n%s", len(lines), lost, strings.Join(lines, "\n"))
	}
	for _, line := range lines {
		t.Log(line)
	}
}

// Promise 3: two relays that each hold one of the two ids: at most one commits a transaction, and both recover. The first has taken one
// id and asked for the other, and is frozen while the network keeps that request; the second leads, takes one id or both, and is frozen;
// then the request comes, and takes the other id from the second.
func TestPromise3TwoRelaysThatEachFencedOneIDRecover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
	w.write(2, 10)
	first := w.start("before")
	first.until("to publish", published(w.log.events()))
	first.stop()
	for _, second := range []string{freezeAt("fenced", 1), freezeAt("fence", 2), freezeAt("produced", 1)} {
		come, release := w.kafka.wire.delay(nthOf(2, kmsg.InitProducerID))
		t.Cleanup(release)
		a := w.start("a")
		a.until("to ask for its second id", func(report) bool { return closed(come) })
		a.process.Freeze(t)
		w.write(2, 10) // so that there is something to publish for who comes first
		b := w.start("b", second)
		b.waitPoint() // past the lease of a
		before := w.epochs()
		release()
		eventually(t, "a to have taken its second id", func() (bool, string) {
			now := w.epochs()
			return now[1] > before[1], fmt.Sprint(before, now)
		})
		a.process.Thaw(t)
		a.until("to stand by or to lead", func(s report) bool { return standby(s) || leads(s) })
		t.Logf("%s: the first woke, epochs of the ids %v and %v", second, before, w.epochs())
		b.process.Thaw(t)
		w.write(2, 20)
		w.untilPublished()
		eventually(t, "one to lead and one to stand by", func() (bool, string) {
			x, y := a.ask(), b.ask()
			return leads(x) && standby(y) || standby(x) && leads(y), x.State + x.Reason + ", " + y.State + y.Reason
		})
		w.verify()
		w.oneOfEach()
		a.stop()
		b.stop()
	}
}

// oneOfEach sees that no transaction was committed twice, whoever it was by: each commits a cursor that counts it, or one a page. In one epoch of a
// producer there is one transaction.
func (w *world) oneOfEach() {
	w.t.Helper()
	last := int64(0)
	var by [2]int64
	for _, r := range w.records(w.cursorTopic()) {
		var cursor struct {
			T int64 `json:"t"`
		}
		if r.Partition != 0 { // which holds no cursors
			continue
		}
		if err := json.Unmarshal(r.Value, &cursor); err != nil {
			w.t.Fatalf("cursor at offset %d: %v", r.Offset, err)
		}
		writer := [2]int64{r.ProducerID, int64(r.ProducerEpoch)}
		if cursor.T < last || cursor.T == last && writer != by {
			w.t.Errorf("transaction %d is committed, at offset %d, behind transaction %d", cursor.T, r.Offset, last)
		}
		last, by = cursor.T, writer
	}
	if last == 0 {
		w.t.Error("no cursor is committed")
	}
}

// epochs are those of the two ids: each fencing raises one.
func (w *world) epochs() (epochs [2]int16) {
	w.t.Helper()
	for i := range epochs {
		id := fmt.Sprintf("millrace.%s.%d", w.name, i)
		all, err := w.admin.DescribeTransactions(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		epochs[i] = all[id].ProducerEpoch
	}
	return epochs
}

// A leader that sleeps past the timeout of its transaction, with no other relay to take over: the broker has aborted it, and the
// relay publishes it again when it wakes.
func TestPromise3SleepingPastTheTransactionTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"transaction_timeout: 2s", "publish_timeout: 1s"}})
	r := w.start("relay", freezeAt("produced", 3))
	r.until("to lead", leads)
	w.untilFrozen(r)
	t.Log("records found before: ", len(w.records(w.topic))) // waits until the broker has aborted the transaction
	r.process.Thaw(t)
	w.write(2, 20)
	w.finish()
}
