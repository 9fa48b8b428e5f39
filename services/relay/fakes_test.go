package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// fakeTable is an outbox whose transactions are its rows: xid = id. Snapshots are taken of all that is there.
type fakeTable struct {
	mu        sync.Mutex
	rows      []store.Event
	unflushed bool // until forced
	stuck     bool // forcing does not help
	frozen    bool // forcing does not end
	forced    int
	source    store.Source
	schema    *schemas.Schema
	polls     int
}

func (f *fakeTable) add(key string, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := int64(len(f.rows) + 1)
	f.rows = append(f.rows, store.Event{
		Xid: uint64(id), ID: id, EventID: [16]byte{byte(id >> 8), byte(id)}, Topic: "t", Key: key, Type: "test.Counted",
		Fingerprint: f.schema.Fingerprint, Body: []byte(body), OccurredAt: fakeNow,
	})
}

func (f *fakeTable) polled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.polls
}

var fakeNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (f *fakeTable) window(last, upper store.Snapshot) *store.Window {
	s := f.source
	s.Xmax = upper.Xmax
	return &store.Window{Last: last, Upper: upper, Source: s}
}

func (f *fakeTable) Open(ctx context.Context, last store.Snapshot, limit int) (*store.Window, store.Page, error) {
	f.mu.Lock()
	f.polls++
	xmax := uint64(len(f.rows) + 1)
	f.mu.Unlock()
	w := f.window(last, store.Snapshot{Xmin: xmax, Xmax: xmax})
	page, err := f.Page(ctx, w, 0, limit)
	return w, page, err
}

func (f *fakeTable) Reopen(_ context.Context, last, upper store.Snapshot) (*store.Window, error) {
	return f.window(last, upper), nil
}

func (f *fakeTable) Page(_ context.Context, w *store.Window, after int64, limit int) (store.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var page store.Page
	for _, e := range f.rows {
		if e.ID <= after || w.Last.Sees(e.Xid) || !w.Upper.Sees(e.Xid) {
			continue
		}
		if len(page.Events) == limit {
			page.More = true
			break
		}
		page.Events = append(page.Events, e)
	}
	return page, nil
}

func (f *fakeTable) Flushed(context.Context, *store.Window) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.unflushed, nil
}

func (f *fakeTable) ForceFlush(ctx context.Context) error {
	if f.frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forced++
	f.unflushed = f.stuck
	return nil
}

func (f *fakeTable) Schema(_ context.Context, fp schemas.Fingerprint) (*schemas.Schema, error) {
	if fp != f.schema.Fingerprint {
		return nil, store.ErrNoSchema
	}
	return f.schema, nil
}

// fakeKafka takes transactions and writes down what happens, in order.
type fakeKafka struct {
	mu      sync.Mutex
	script  []string
	open    map[int64][]*kgo.Record
	records []*kgo.Record // committed
	// failPublish and failCommit are the transactions that end in an error; heldCommit waits for release.
	failPublish, failCommit, heldCommit int64
	// failSend is which call of publish, counted from 1, ends in an error.
	failSend, sent int
	release        chan struct{}
}

var errFake = errors.New("a broker's answer that nobody expected")

func (k *fakeKafka) say(format string, args ...any) {
	k.script = append(k.script, fmt.Sprintf(format, args...))
}

func (k *fakeKafka) publish(_ context.Context, t int64, records []*kgo.Record, _ *wire) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.say("send %d", t)
	if k.sent++; t == k.failPublish || k.sent == k.failSend {
		return errFake
	}
	if k.open == nil {
		k.open = map[int64][]*kgo.Record{}
	}
	for _, r := range records {
		k.open[t] = append(k.open[t], cloned(r))
	}
	return nil
}

// cloned copies a record: the loop uses the memory of those that are acknowledged again.
func cloned(r *kgo.Record) *kgo.Record {
	c := *r
	c.Key, c.Value, c.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return &c
}

func (k *fakeKafka) commit(_ context.Context, t int64) error {
	if t == k.heldCommit {
		<-k.release
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.say("commit %d", t)
	if t == k.failCommit {
		return errFake
	}
	k.records = append(k.records, k.open[t]...)
	delete(k.open, t)
	return nil
}

func (k *fakeKafka) transcript() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.script, ", ")
}

// keys are the keys of the committed records of a topic.
func (k *fakeKafka) keys(topic string) []string {
	var keys []string
	for _, r := range k.records {
		if r.Topic == topic {
			keys = append(keys, string(r.Key))
		}
	}
	return keys
}

// cursors are the committed cursors.
func (k *fakeKafka) cursors() []*cursor {
	var all []*cursor
	for _, r := range k.records {
		if r.Topic != cursorTopic("test") || r.Partition != cursorPartition {
			continue
		}
		c, err := decodeCursor(r.Value)
		if err != nil {
			panic(err)
		}
		all = append(all, c)
	}
	return all
}

type fakeRegistry func(subject, text string) (int, error)

func (f fakeRegistry) Register(_ context.Context, subject, text string) (int, error) {
	return f(subject, text)
}

type fakeReport struct{ commits []*commit }

func (f *fakeReport) committed(c *commit) { f.commits = append(f.commits, c) }

// bench is a loop over fakes.
type bench struct {
	loop
	shared int // pages of a transaction, after a restart as well
	table  *fakeTable
	kafka  *fakeKafka
	report *fakeReport
	stop   context.CancelFunc
	ctx    context.Context
}

const fakeSchema = `{"type": "record", "name": "Counted", "namespace": "test", "fields": [{"name": "n", "type": "long"}]}`

func newBench(change ...func(*Config)) *bench {
	schema, err := schemas.Parse(fakeSchema)
	if err != nil {
		panic(err)
	}
	cfg := Config{Outbox: "test", PageSize: 2}
	for _, c := range change {
		c(&cfg)
	}
	cfg = cfg.WithDefaults()
	b := &bench{
		table:  &fakeTable{schema: schema, source: store.Source{SystemID: "1", Timeline: 1, LSN: 1}},
		kafka:  &fakeKafka{release: make(chan struct{})},
		report: &fakeReport{},
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.loop = b.newLoop(cfg, &cursor{Partitions: map[string]int32{}})
	return b
}

// newLoop starts over at a cursor, with lines as a start would read them back.
func (b *bench) newLoop(cfg Config, at *cursor) loop {
	held := newLineLoader()
	for _, r := range b.kafka.records {
		if r.Topic == parkedTopic("test") {
			p, err := decodeParked(r.Value)
			if err != nil {
				panic(err)
			}
			held.take(r, p)
		}
	}
	now := func() time.Time { return fakeNow }
	return loop{
		together: b.shared, cfg: cfg, source: b.table, publisher: b.kafka, report: b.report, point: func(string) {}, well: func() {}, now: now,
		cursor: at, idle: time.Millisecond,
		framer: &framer{
			cfg: cfg, source: []byte("/s"), lines: held.lines, now: now,
			partitions: func(context.Context, string) (int32, error) { return 3, nil },
			limit:      newLimits(cfg, map[string]int{}).record,
			highest:    func(context.Context, string) (int64, error) { return 0, nil },
			ids: &schemaIDs{
				registry: fakeRegistry(func(string, string) (int, error) { return 7, nil }), subjects: TopicRecordSubjects,
				lookup: b.table.Schema, missing: func(err error) bool { return errors.Is(err, store.ErrNoSchema) },
				away: func(error) {}, now: now, cache: map[schemaKey]*resolved{}, known: map[string]int{},
			},
		},
	}
}

// restart throws the loop away, with whatever was not committed, and starts from the newest cursor.
func (b *bench) restart() {
	at := &cursor{Partitions: map[string]int32{}}
	if all := b.kafka.cursors(); len(all) > 0 {
		at = all[len(all)-1]
	}
	b.kafka.failPublish, b.kafka.failCommit, b.kafka.failSend = 0, 0, 0
	b.kafka.open = nil // whoever starts ends what is open
	b.loop = b.newLoop(b.cfg, at)
}

// drain steps until a poll finds nothing and the last commit is known.
func (b *bench) drain() error {
	for {
		busy, err := b.step(b.ctx, b.ctx)
		if err != nil {
			_ = b.await()
			return err
		}
		if !busy {
			return b.await()
		}
	}
}

func seqs(records []*kgo.Record) []string {
	var all []string
	for _, r := range records {
		i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == headerSeq })
		if i >= 0 {
			all = append(all, string(r.Headers[i].Value))
		}
	}
	return all
}
