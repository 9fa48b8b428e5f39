package position

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

var orders = consumers.TopicPartition{Topic: "orders", Partition: 3}

// history is a log as owners write it, one of them awake at a time for certain, the others perhaps.
type history struct {
	rnd    *rand.Rand
	log    []*kgo.Record
	owners []*owner
}

// owner is a process as it was when it last looked.
type owner struct {
	name  string
	epoch int64
	state entry
}

func (h *history) write(name string, v *record) int64 {
	r := &kgo.Record{Key: []byte(name), Offset: int64(len(h.log))}
	if v != nil {
		r.Value, _ = json.Marshal(v)
	}
	h.log = append(h.log, r)
	return r.Offset
}

func read(t *testing.T, log []*kgo.Record) entry {
	t.Helper()
	entries := map[consumers.TopicPartition]*entry{}
	for _, r := range log {
		if err := apply(entries, r); err != nil {
			t.Fatal(err)
		}
	}
	if e := entries[orders]; e != nil {
		return *e
	}
	return entry{next: -1}
}

// claim makes a new owner, who may die before it has written down what it took over.
func (h *history) claim(t *testing.T) {
	o := &owner{name: nameOf(orders, fmt.Sprint("owner", len(h.owners)))}
	o.epoch = h.write(o.name, &record{Claim: true, Next: -1}) + 1
	o.state = read(t, h.log)
	h.owners = append(h.owners, o)
	if h.rnd.IntN(4) == 0 {
		return // dead; the others may go on
	}
	h.write(o.name, &record{Epoch: o.epoch, Next: o.state.next, Marks: o.state.marks})

	for name := range o.state.names {
		if name != o.name && h.rnd.IntN(8) > 0 {
			h.write(name, nil)
		}
	}
}

// commit lets an owner, or one that was replaced and does not know it, write a state.
func (h *history) commit() {
	if len(h.owners) == 0 {
		return
	}
	o := h.owners[len(h.owners)-1]
	late := h.rnd.IntN(5) == 0
	if late {
		o = h.owners[h.rnd.IntN(len(h.owners))]
	}
	c := fold.Commit{TopicPartition: orders, Epoch: o.epoch, From: o.state.next, Next: max(o.state.next, 0) + int64(h.rnd.IntN(50))}
	if h.rnd.IntN(3) == 0 {
		c.Quarantine = map[string]int64{fmt.Sprint("key", h.rnd.IntN(4)): c.Next}
	}
	v := o.state.after(c)
	h.write(o.name, &v)
	o.state.next, o.state.marks = v.Next, v.Marks
}

// compacted is the log as a reader may find it: below some offset only the last record of each key is left.
func (h *history) compacted() []*kgo.Record {
	cleaned := h.rnd.IntN(len(h.log) + 1)
	last := map[string]int64{}
	for _, r := range h.log[:cleaned] {
		last[string(r.Key)] = r.Offset
	}
	var out []*kgo.Record
	for _, r := range h.log {
		if r.Offset < int64(cleaned) && (last[string(r.Key)] != r.Offset || len(r.Value) == 0) {
			continue
		}
		out = append(out, r)
	}
	return out
}

// A reader that comes after compaction knows the same owner, position and marks as one that read everything, unless the owner died before
// it had written down what it took over: then it may find what a former owner said later. It is never without a position.
func TestCompactionLosesNeitherOwnerNorPosition(t *testing.T) {
	differ := 0
	for seed := range uint64(20_000) {
		h := &history{rnd: rand.New(rand.NewPCG(seed, 1))}
		for range 5 + h.rnd.IntN(40) {
			if h.rnd.IntN(6) == 0 {
				h.claim(t)
			} else {
				h.commit()
			}
		}
		if len(h.log) == 0 {
			continue
		}
		whole, found := read(t, h.log), read(t, h.compacted())
		confirmed := len(h.owners) > 0 && hasState(h.log, whole.epoch)
		if last := len(h.owners) - 1; confirmed { // nothing but the last owner's own words counts
			if o := h.owners[last]; whole.epoch != o.epoch || whole.next != o.state.next || !maps.Equal(whole.marks, o.state.marks) {
				t.Fatalf("seed %d: read %+v, the owner at %d wrote %d %v", seed, whole, o.epoch, o.state.next, o.state.marks)
			}
		}
		switch {
		case whole.next >= 0 && found.next < 0:
			t.Fatalf("seed %d: position %d is lost", seed, whole.next)
		case !confirmed && (found.next != whole.next || !maps.Equal(found.marks, whole.marks)):
			differ++
		case found.epoch != whole.epoch || found.next != whole.next || !maps.Equal(found.marks, whole.marks):
			t.Fatalf("seed %d: read whole %+v, read after compaction %+v", seed, whole, found)
		}
	}
	t.Logf("%d histories end with an owner that died at once and a former one that spoke later", differ)
}

func hasState(log []*kgo.Record, epoch int64) bool {
	for _, r := range log {
		var v record
		if json.Unmarshal(r.Value, &v) == nil && v.Epoch == epoch {
			return true
		}
	}
	return false
}

func TestRecordsOfStrangersChangeNothing(t *testing.T) {
	entries := map[consumers.TopicPartition]*entry{}
	mine := `{"epoch":1,"next":7}`
	for i, c := range []struct{ key, value string }{
		{"orders/3/me", `{"claim":true,"next":-1}`}, {"orders/3/me", mine},
		{"", mine}, {"orders", mine}, {"orders/x/me", mine}, {"orders/-1/me", mine}, {"/3/me", mine}, {"orders/3/me", "nonsense"},
		{"orders/3/me", `{"epoch":-1,"next":9}`}, {"orders/3/me", `{"epoch":1,"next":-2}`}, {"orders/3/me", `{"next":9}`},
		{"orders/3/me", `{"claim":true,"epoch":1,"next":9}`}, {"orders/99999999999/me", mine}, {"other/3/me", ""},
	} {
		err := apply(entries, &kgo.Record{Key: []byte(c.key), Value: []byte(c.value), Offset: int64(i)})
		if stranger := i >= 2 && c.value != ""; stranger != (err != nil) {
			t.Errorf("%q %q: %v", c.key, c.value, err)
		}
	}
	if e := entries[orders]; len(entries) != 1 || e.epoch != 1 || e.next != 7 {
		t.Errorf("%+v", entries)
	}
}

// Where the topic is read anew for another partition, nobody is judged by a reading that has not come to the end: he claims anew.
func TestAReadingThatIsBehindFencesNobody(t *testing.T) {
	t.Parallel()
	young := &tail{entries: map[consumers.TopicPartition]*entry{}, moved: make(chan struct{})}
	old := &tail{entries: map[consumers.TopicPartition]*entry{orders: {epoch: 7, next: 20}}, moved: make(chan struct{}), err: errors.New("gone")}
	l := &Log{tail: young, owners: map[consumers.TopicPartition]held{orders: {"name", old}}}
	if err := l.Check(fold.Commit{TopicPartition: orders, Epoch: 7, From: 20, Next: 30}); !errors.Is(err, consumers.ErrPosition) || errors.Is(err, consumers.ErrFenced) {
		t.Errorf("%v", err)
	}
}
