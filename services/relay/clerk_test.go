package relay

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// fakeDesk has one request, and keeps what it is answered.
type fakeDesk struct {
	request *store.Request
	answers []Answer
}

func (d *fakeDesk) wanted() (*store.Pause, []int64) { return nil, nil }

func (d *fakeDesk) next() *store.Request {
	r := d.request
	d.request = nil
	return r
}

func (d *fakeDesk) progress(int64, *Answer) {}

func (d *fakeDesk) answer(_ int64, a *Answer, _ *store.Pause) { d.answers = append(d.answers, *a) }

// discarding has a clerk that is asked to discard the one event that is parked, in transaction 2.
func discarding(t *testing.T) (*bench, *clerk, *fakeDesk) {
	t.Helper()
	b := newBench()
	b.table.add("k", `{"n": "many"}`)
	if err := b.drain(); err != nil {
		t.Fatal(err)
	}
	args, err := json.Marshal(discardArgs{Events: []uuid.UUID{b.table.rows[0].EventID}})
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDesk{request: &store.Request{ID: 5, Kind: store.RequestDiscard, Args: args}}
	return b, newClerk(b.cfg, d, b.framer, nil, earlier{}, func(string) {}), d
}

// Promise 3: a request is answered when its transactions are known to be committed, and not when they are sent.
func TestPromise3ARequestIsAnsweredAfterItsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c, d := discarding(t)
		b.kafka.heldCommit = 2
		done := make(chan error)
		go func() {
			_, _, err := c.operate(b.ctx, b.ctx, &b.loop)
			done <- err
		}()
		synctest.Wait()
		if len(d.answers) != 0 {
			t.Errorf("answered while the commit is under way: %+v", d.answers)
		}
		close(b.kafka.release)
		if err := <-done; err != nil || len(d.answers) != 1 || d.answers[0].Discarded != 1 {
			t.Errorf("%+v %v", d.answers, err)
		}
	})
	b, c, d := discarding(t)
	b.kafka.failCommit = 2
	if _, _, err := c.operate(b.ctx, b.ctx, &b.loop); !errors.Is(err, errFake) || len(d.answers) != 0 {
		t.Errorf("the commit failed, and it is answered: %+v %v", d.answers, err)
	}
}

// A drain ends when every transaction that its snapshot sees as completed is published, and waits for no other.
func TestADrainCoversWhatItsSnapshotSees(t *testing.T) {
	last := store.Snapshot{Xmin: 5, Xmax: 10, Xip: []uint64{5}}
	for _, c := range []struct {
		name string
		at   cursor
		asks store.Snapshot
		want bool
	}{
		{"nothing has happened since", cursor{Last: last}, last, true},
		{"one that runs for both", cursor{Last: last}, store.Snapshot{Xmin: 5, Xmax: 8, Xip: []uint64{5}}, true},
		{"one that ran when the relay looked last", cursor{Last: last}, store.Snapshot{Xmin: 10, Xmax: 10}, false},
		{"one that began since", cursor{Last: last}, store.Snapshot{Xmin: 5, Xmax: 11, Xip: []uint64{5}}, false},
		{"in the middle of a window", cursor{Last: last, Upper: store.Snapshot{Xmin: 12, Xmax: 12}}, last, false},
	} {
		if got := (&loop{cursor: &c.at}).covers(c.asks); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
