package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// fakeLog takes what is sent at least once. Now and then it takes only some of it, or all, and says that it failed.
type fakeLog struct {
	rnd    *rand.Rand // nil: it does not fail
	cursor *kgo.Record

	mu      sync.Mutex // guards the following: a topic is looked at for the first time while the page before commits
	records []*kgo.Record
}

func (k *fakeLog) land(r *kgo.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.records = append(k.records, cloned(r))
}

func (k *fakeLog) fails() bool { return k.rnd != nil && k.rnd.IntN(6) == 0 }

func (k *fakeLog) intend(_ context.Context, r *kgo.Record) error { return k.write(r) }

func (k *fakeLog) commit(context.Context, int64) error { return k.write(k.cursor) }

func (k *fakeLog) write(r *kgo.Record) error {
	failed := k.fails()
	if !failed || k.rnd.IntN(2) == 0 {
		k.land(r)
	}
	if failed {
		return errFake
	}
	return nil
}

func (k *fakeLog) publish(_ context.Context, _ int64, records []*kgo.Record, _ *wire) error {
	last := len(records) - 1
	k.cursor = records[last]
	for _, own := range []bool{false, true} {
		failed, cut := k.fails(), map[string]bool{}
		for _, r := range records[:last] {
			if internal(r.Topic) != own {
				continue
			}
			// Nothing lands in a partition behind what did not.
			at := fmt.Sprint(r.Topic, r.Partition)
			if cut[at] = cut[at] || failed && k.rnd.IntN(3) == 0; !cut[at] {
				k.land(r)
			}
		}
		if failed {
			return errFake
		}
	}
	return nil
}

func (k *fakeLog) highest(_ context.Context, topic string) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	highest := int64(40) // somebody else's
	for _, r := range k.records {
		if r.Topic == topic {
			highest = max(highest, seqOf(r))
		}
	}
	return highest, nil
}

// newest is what a start reads back.
func (k *fakeLog) newest() *cursor {
	var r reign
	for i, rec := range k.records {
		if string(rec.Key) == cursorKey && internal(rec.Topic) {
			r.see(int64(i), rec.Value)
		}
	}
	if r.value == nil {
		return &cursor{Partitions: map[string]int32{}}
	}
	c, err := decodeCursor(r.value)
	if err != nil {
		panic(err)
	}
	return c
}

// over starts the loop from what the log holds.
func (b *bench) over(k *fakeLog, pageSize int) {
	b.kafka.records = k.records
	b.cfg.PageSize = pageSize
	at := k.newest()
	at.Epoch, at.Writer = 1, "w"
	at.resume()
	b.loop = b.newLoop(b.cfg, at)
	b.publisher, b.intender, b.framer.highest = k, k, k.highest
	if at.Intent != nil {
		b.framer.repeat = &repeat{landed: k.parked(), broken: newLines()}
	}
}

func (k *fakeLog) parked() map[uuid.UUID]seat {
	all := map[uuid.UUID]seat{}
	for _, r := range k.records {
		if r.Topic != parkedTopic("test") {
			continue
		}
		p, err := decodeParked(r.Value)
		if err != nil {
			panic(err)
		}
		all[p.EventID] = seat{queue: &queue{}}
	}
	return all
}

// grow adds rows to the table: of many keys, to old topics and new ones, some of them bad, some between rows that were there.
func (f *fakeTable) grow(rnd *rand.Rand, n int) {
	for range n {
		late := len(f.rows) > 3 && rnd.IntN(5) == 0
		body := `{"n": 1}`
		if rnd.IntN(12) == 0 {
			body = `{"n": "bad"}`
		}
		f.add(fmt.Sprintf("k%d", rnd.IntN(40)), body)
		e := &f.rows[len(f.rows)-1]
		e.ID = int64(e.Xid) * 100
		e.Topic = fmt.Sprintf("t%d", rnd.IntN(1+len(f.rows)/50))
		if late { // its id was drawn earlier; nobody else writes its key
			e.ID = e.ID - 300 + int64(e.Xid)%90 + 1
			e.Key = fmt.Sprintf("late%d", e.Xid)
		}
		slices.SortFunc(f.rows, func(a, b store.Event) int { return int(a.ID - b.ID) })
	}
}

// Promise 3, at least once: whatever fails and whenever, a repeat stamps the same versions on the same events and parks the same
// ones, nothing is lost, and first appearances are in order.
func TestPromise3ARepeatIsTheSame(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := newBench()
		k := &fakeLog{rnd: rnd}
		b.over(k, 8)
		failures := 0
		for round := 0; round < 25; round++ {
			b.table.grow(rnd, rnd.IntN(20))
			if b.drain() != nil {
				failures++
				b.over(k, 1+rnd.IntN(12))
			}
		}
		for b.drain() != nil {
			if failures++; failures > 1000 {
				t.Fatalf("seed %d: it does not end", seed)
			}
			b.over(k, 1+rnd.IntN(12))
		}
		if failures == 0 {
			t.Errorf("seed %d: nothing failed", seed)
		}
		if wrong := k.wrong(b.table.rows); wrong != "" {
			t.Fatalf("seed %d: %s", seed, wrong)
		}
	}
}

// wrong holds what landed against the table.
func (k *fakeLog) wrong(rows []store.Event) string {
	seq, taken, held := map[string]int64{}, map[string]string{}, map[string]int64{}
	last := map[string]int64{} // highest version of a key
	for _, r := range k.records {
		switch {
		case r.Topic == parkedTopic("test"):
			p, _ := decodeParked(r.Value)
			id := p.EventID.String()
			if before, again := held[id]; again && before != p.Position {
				return fmt.Sprintf("event %s was parked at place %d and at %d", id, before, p.Position)
			}
			held[id] = p.Position
		case !internal(r.Topic):
			id, s := headerOf(r, headerID), seqOf(r)
			if before, again := seq[id]; again {
				if before != s {
					return fmt.Sprintf("event %s has version %d and %d", id, before, s)
				}
				continue
			}
			at := fmt.Sprint(r.Topic, s)
			if other, is := taken[at]; is {
				return fmt.Sprintf("events %s and %s have version %d", other, id, s)
			}
			if key := r.Topic + string(r.Key); s <= last[key] {
				return fmt.Sprintf("key %s: version %d appears after %d", key, s, last[key])
			} else {
				last[key] = s
			}
			seq[id], taken[at] = s, id
		}
	}
	newest := map[string]int64{}
	for _, e := range rows {
		id, key := uuid.UUID(e.EventID).String(), e.Topic+e.Key
		_, parked := held[id]
		s, published := seq[id]
		switch {
		case parked == published:
			return fmt.Sprintf("event %s: parked %v, published %v", id, parked, published)
		case published && s < newest[key]:
			return fmt.Sprintf("key %s: row %d has version %d, a row before it %d", key, e.ID, s, newest[key])
		case published:
			newest[key] = s
		}
	}
	return ""
}

// A page smaller than the one announced, and a configuration that is another: the rest keeps its versions.
func TestAnIntentOutlivesSmallerPages(t *testing.T) {
	i := &intent{decisions: decisions{Rows: 5}}
	if got := i.after(2); got == nil || got.Done != 2 || i.Done != 0 {
		t.Errorf("%+v", got)
	}
	if i.after(2).after(3) != nil {
		t.Error("an intent that is done is left")
	}
}

// What a relay wrote that had been overtaken is not believed, whatever the order.
func TestPromise3RecordsOfAnOvertakenRelayDoNotCount(t *testing.T) {
	said := func(s stamp, seq int64) []byte {
		c := &cursor{T: 1, Seq: seq, Source: store.Source{SystemID: "1"}, stamp: s}
		value, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	record := func(epoch int64, writer string, seq int64) []byte {
		return said(stamp{Epoch: epoch, Writer: writer}, seq)
	}
	claim := func(epoch int64, writer string, at, seq int64) []byte {
		return said(stamp{Epoch: epoch, Writer: writer, Claim: true, At: at}, seq)
	}
	for name, test := range map[string]struct {
		log  [][]byte
		want int64 // seq
	}{
		"transactions only":             {[][]byte{record(0, "", 1), record(0, "", 2)}, 2},
		"a zombie":                      {[][]byte{claim(1, "a", 0, 1), claim(2, "b", 1, 2), record(1, "a", 3)}, 2},
		"two claim at once":             {[][]byte{claim(2, "a", 0, 1), claim(2, "b", 0, 3), record(2, "a", 2)}, 2},
		"a claim behind what it missed": {[][]byte{claim(1, "a", 0, 1), record(1, "a", 2), claim(2, "b", 1, 1)}, 2},
		"and what is written after it":  {[][]byte{claim(1, "a", 0, 1), record(1, "a", 2), claim(2, "b", 1, 1), record(1, "a", 3)}, 3},
		"transactions afterwards":       {[][]byte{claim(1, "a", 0, 1), claim(2, "", 1, 2), record(2, "", 3), record(1, "a", 9)}, 3},
	} {
		var r reign
		for offset, value := range test.log {
			r.see(int64(offset), value)
		}
		if c, err := decodeCursor(r.value); err != nil || c.Seq != test.want {
			t.Errorf("%s: %+v, %v, want seq %d", name, c, err, test.want)
		}
	}
}

// Promise 1, at least once: what cannot be taken back is not even announced before Postgres has flushed it.
func TestPromise1AtLeastOnceNothingIsSentBeforePostgresHasFlushed(t *testing.T) {
	b := newBench()
	k := &fakeLog{}
	b.over(k, 8)
	b.rows("a")
	b.table.unflushed, b.table.stuck = true, true
	if err := b.drain(); err == nil || len(k.records) != 0 {
		t.Errorf("%d records were sent: %v", len(k.records), err)
	}
	b.table.stuck = false
	b.over(k, 8)
	if err := b.drain(); err != nil || len(k.records) != 4 {
		t.Errorf("%d records, want intent, event, schema id and cursor: %v", len(k.records), err)
	}
}
