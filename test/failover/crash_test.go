package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// victimEnv makes this test binary re-anchor and kill itself at a step.
const victimEnv = "MILLRACE_FAILOVER_VICTIM"

// order is what a victim is told.
type order struct {
	Outbox, Topic, Postgres string
	Brokers                 []string
	Step                    string
	// Begun has it killed at the begin of the step, and not after its first batch.
	Begun bool
}

// victim re-anchors and sends itself SIGKILL.
func victim() {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	w := &world{name: o.Outbox, topic: o.Topic, dsn: o.Postgres, brokers: o.Brokers}
	_, err := relay.ReAnchor(context.Background(), w.config(), relay.ReAnchorOptions{BatchRows: 20, Progress: func(p relay.Progressed) {
		if p.Step == o.Step && (o.Begun || p.Done > 0) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal is there
		}
	}})
	fmt.Fprintln(os.Stderr, "alive:", err)
	os.Exit(3)
}

func (w *world) kill(step string, begun bool) {
	w.t.Helper()
	raw, err := json.Marshal(order{Outbox: w.name, Topic: w.topic, Postgres: w.dsn, Brokers: w.brokers, Step: step, Begun: begun})
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := harness.Start(w.t, harness.Command{Path: self, Env: []string{victimEnv + "=" + string(raw)}, Name: "re-anchor"})
	if code := p.Wait(w.t, time.Minute); code != -1 {
		w.t.Fatalf("killed at %q it ended with %d: %s", step, code, p.Output())
	}
}

// Killed with SIGKILL at every step, and run again: the outcome is that of a run that was not disturbed. A relay that starts in
// between stops. The topic has forgotten its first records, so that for their rows there is only the old cursor's word, which
// must not be asked for twice.
func TestReanchoringKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	w := newWorld(t, server.DSN)
	w.write(80)
	w.publishAll()
	forgotten := w.forget()
	w.write(80)
	server.Stop(t)
	volume := server.CopyVolume(t)
	server.Start(t)
	w.open()
	kept := w.events()
	w.write(80)
	w.publishAll()
	lost := int(w.events() - kept)
	server.Stop(t)
	server.RestoreVolume(t, volume)
	server.Start(t)
	w.open()

	for _, at := range []struct {
		step  string
		begun bool
	}{
		{relay.StepRead, true}, {relay.StepCompare, true}, {relay.StepConfirmed, true},
		{relay.StepPublished, true}, {relay.StepPublished, false}, {relay.StepJudged, true},
		{relay.StepSequence, true}, {relay.StepSequence, false},
		{relay.StepUnpublish, true}, {relay.StepUnpublish, false}, {relay.StepCursor, true},
	} {
		w.write(8)
		if at.step == relay.StepSequence {
			w.rewind()
		}
		w.kill(at.step, at.begun)
		if at.step == relay.StepRead || at.step == relay.StepCompare || at.step == relay.StepConfirmed {
			continue // nothing is marked: the database is what stops a relay
		}
		r := w.relay()
		r.stopsWith(relay.ErrAnchoring)
	}
	found, listed := w.reanchor(relay.ReAnchorOptions{})
	if !found.Resumed || found.Assumed != int64(len(forgotten)) {
		t.Errorf("%d rows assumed to be published, the topic has forgotten %d: %+v", found.Assumed, len(forgotten), found)
	}
	w.checkLost(listed, lost, 0)
	w.write(20)
	w.publishAll()
	w.check(listed, forgotten)
}

// Restored from a dump while the relay was behind, from a topic that has forgotten its first records: the xids that the first
// attempt gave to unpublished rows are low ones, which the old cursor believes to have seen.
func TestVerdictOfTheOldCursorIsAskedForOnce(t *testing.T) {
	t.Parallel()
	old := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	burn(t, old.DSN, 3000)
	db := old.Database(t)
	w := newWorld(t, db.DSN)
	w.write(80)
	w.publishAll()
	forgotten := w.forget()
	w.write(160)
	dump := old.Dump(t, db.DSN)
	w.publishSome()

	fresh := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	target := fresh.Database(t)
	fresh.RestoreDump(t, target.DSN, dump)
	w.dsn = target.DSN
	w.open()
	w.kill(relay.StepUnpublish, false)
	w.kill(relay.StepCursor, true)
	w.kill(relay.StepUnpublish, false)
	found, _ := w.reanchor(relay.ReAnchorOptions{})
	if found.Assumed != int64(len(forgotten)) || found.Unpublished == 0 {
		t.Errorf("%d rows assumed to be published, the topic has forgotten %d: %+v", found.Assumed, len(forgotten), found)
	}
	w.publishAll()
	w.check(nil, forgotten)
}

// forget has the topic delete what it holds, and returns the events.
func (w *world) forget() map[uuid.UUID]bool {
	w.t.Helper()
	gone := map[uuid.UUID]bool{}
	for _, r := range w.committed(w.topic) {
		gone[eventID(r)] = true
	}
	ends, err := w.admin.ListEndOffsets(w.t.Context(), w.topic)
	if err != nil {
		w.t.Fatal(err)
	}
	upTo := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { upTo.AddOffset(o.Topic, o.Partition, o.Offset, -1) })
	if _, err := w.admin.DeleteRecords(w.t.Context(), upTo); err != nil {
		w.t.Fatal(err)
	}
	return gone
}

// rewind sets the sequence back to the highest row, so that there are ids to be drawn again.
func (w *world) rewind() {
	w.t.Helper()
	w.exec(`select setval('outbox.event_id_seq', (select max(id) from outbox.event))`)
}
