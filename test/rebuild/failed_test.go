package rebuild

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers/rebuild"
)

// Where nobody could do it, a command says so after a few seconds, and leaves no request behind.
func TestNoProcessOfTheSinkRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, "bleve", "")
	began := time.Now()
	r.refused("no process of sink "+r.name+" runs", "rebuild", r.name)
	t.Logf("told after %v", time.Since(began))
	if out := r.ok("rebuild", "status", r.name); !strings.Contains(out, "serves") {
		t.Errorf("status says\n%s", out)
	}
	if a := r.say("rebuild", r.name, "--from", "never"); a.code != 2 || !strings.Contains(a.stderr, "is none of beginning, bronze") {
		t.Errorf("it ended with %d and said %s", a.code, a.stderr)
	}
}

// Promise 8: dead letters are decisions. An event that was discarded stays so in the new generation, a key that is quarantined waits there as well, and neither writes a
// letter again; poison that is not recorded fails the rebuild, and what serves goes on.
func TestPromise8_RecordedDeadLettersAreReplayedAndOtherPoisonFails(t *testing.T) {
	t.Parallel()
	for _, kind := range some(t, 1, kinds...) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, "")
			r.fill(200)
			r.bad("discarded")
			r.bad("waiting")
			r.start()
			r.fill(200)
			r.ready()
			r.ok("dlq", "discard", "--key", "discarded", "--yes")
			reader := r.watch()
			letters := r.ok("dlq", "list", "--all", "-o", "json")
			r.ok("rebuild", r.name)
			if again := r.ok("dlq", "list", "--all", "-o", "json"); again != letters {
				t.Errorf("the dead letters were\n%s\nand are\n%s", letters, again)
			}
			if keys := r.ok("dlq", "list", "--keys"); !strings.Contains(keys, "waiting") || strings.Contains(keys, "discarded") {
				t.Errorf("in quarantine are\n%s", keys)
			}
			r.ok("rebuild", "finish", r.name)
			reader.end()
			r.stop()
			r.holds(2, 2)

			// The new declaration cannot apply what the old one could.
			r.declare("event.amount / (event.amount - 1)")
			r.start()
			r.caughtUp()
			if out := r.refused("events cannot be applied to the new generation, and could be to the old one", "rebuild", r.name); !strings.Contains(out, "millrace rebuild abort "+r.name) {
				t.Errorf("the failure shows\n%s", out)
			}
			if rec := r.read(); rec.Serving != 2 || rec.Rebuild.State != rebuild.Failed {
				t.Errorf("it is\n%s", shown(rec))
			}
			r.fill(100)
			r.caughtUp()
			r.ok("rebuild", "abort", r.name)
			r.stop()
			r.declare(oldFee)
			r.holds(2, 2)
			r.gone(3)
		})
	}
}

// Promise 8: where the log has lost its beginning that is said first, and bronze fills in.
func TestPromise8_BronzeFillsInWhereTheLogLostItsBeginning(t *testing.T) {
	t.Parallel()
	for _, kind := range some(t, 1, "duckdb", "postgres") {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, "")
			r.fill(1200)
			r.start()
			r.ready()
			lost := kadm.Offsets{}
			ends, err := r.adm.ListEndOffsets(t.Context(), r.topic)
			if err != nil {
				t.Fatal(err)
			}
			ends.Each(func(o kadm.ListedOffset) { lost.AddOffset(o.Topic, o.Partition, o.Offset/2, -1) })
			if resp, err := r.adm.DeleteRecords(t.Context(), lost); err != nil || resp.Error() != nil {
				t.Fatal(err, resp.Error())
			}
			reader := r.watch()
			r.load()
			if out := r.ok("rebuild", "--plan", r.name); !strings.Contains(out, "--from bronze") {
				t.Errorf("the plan says\n%s", out)
			}
			r.ok("rebuild", r.name, "--from", "bronze")
			if rec := r.read(); rec.Serving != 2 || rec.Rebuild.Comparison == nil || !rec.Rebuild.Comparison.Equal {
				t.Errorf("it is\n%s", shown(rec))
			}
			r.unload()
			r.caughtUp()
			r.followed()
			reader.end()
			r.stop()
			r.holds(2, 2)
			r.holds(1, 2) // which follows
		})
	}
}

// Where the log has lost its beginning and nothing has it, the rebuild is refused, and says what to do.
func TestALogWithoutItsBeginning(t *testing.T) {
	t.Parallel()
	r := newRig(t, "bleve", "")
	r.fill(400)
	r.start()
	r.ready()
	lost := kadm.Offsets{}
	lost.AddOffset(r.topic, 0, 50, -1)
	if resp, err := r.adm.DeleteRecords(t.Context(), lost); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	if out := r.ok("rebuild", "--plan", r.name); !strings.Contains(out, "nothing has it") {
		t.Errorf("the plan says\n%s", out)
	}
	r.refused("--from", "rebuild", r.name)
	r.fill(100)
	r.caughtUp()
}
