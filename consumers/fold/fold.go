package fold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
)

var (
	_ consumers.Processor   = (*Fold)(nil)
	_ consumers.FieldReader = (*Fold)(nil)
)

// DeadLetters takes what cannot be applied; *consumers.DeadLetterProducer is one.
type DeadLetters interface {
	// Send returns nil when every letter is durable, in order. Letters may be sent again after an error or a crash.
	Send(ctx context.Context, letters []consumers.DeadLetter) error
}

// Config says what is folded, and into what.
type Config struct {
	// Name is the sink's name, for logs and metrics. Default "sink".
	Name string
	// Sink keeps the states. Required. It stays the caller's to close.
	Sink Sink
	// Projections are the entities that the sink follows. Two may follow one topic. A topic without any is handed to
	// the sink as events only.
	Projections []Projection
	// DeadLetters takes poison. Required. If it is an io.Closer, Close closes it.
	DeadLetters DeadLetters
	// MaxQuarantined is the number of keys that may be quarantined in the partitions of this process; one more is
	// systemic. Default 1,000; negative means none may.
	MaxQuarantined int
	// MaxQuarantinedShare is the share of a batch's keys that it may add to the quarantine; more is systemic. It is looked at
	// in batches of 100 keys or more. Default 0.25; 1 and above switches it off.
	MaxQuarantinedShare float64
	// CacheBytes bounds the states that are kept in memory beside the store, over all partitions of this process, so that an event of a
	// key seen lately loads nothing. Default 48 MiB; negative keeps none.
	CacheBytes int64
	// Logger gets a warning for each key that is quarantined. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with every unset field filled in.
func (c Config) WithDefaults() Config {
	if c.Name == "" {
		c.Name = "sink"
	}
	if c.MaxQuarantined == 0 {
		c.MaxQuarantined = 1000
	}
	if c.MaxQuarantinedShare == 0 {
		c.MaxQuarantinedShare = 0.25
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 48 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Sink == nil:
		return errors.New("fold: Sink is missing")
	case c.DeadLetters == nil:
		return errors.New("fold: DeadLetters is missing")
	case c.MaxQuarantinedShare < 0:
		return fmt.Errorf("fold: MaxQuarantinedShare is %g, below 0", c.MaxQuarantinedShare)
	}
	seen := map[string]bool{}
	for _, p := range c.Projections {
		if seen[p.Entity()] {
			return fmt.Errorf("fold: two projections of entity %q", p.Entity())
		}
		seen[p.Entity()] = true
	}
	return nil
}

// Fold is the Processor that folds. It is safe for the lanes of one consumer.
type Fold struct {
	cfg     Config
	byTopic map[string][]Projection
	metrics *metrics

	mu    sync.Mutex // guards the following
	owned map[consumers.TopicPartition]*owned
	// topics are the fingerprints of the topics that have the names now.
	topics map[string]int64
}

// owned is what is known of a claimed partition. Its fields belong to the partition's lane, but for marks, which is
// guarded by Fold.mu.
type owned struct {
	epoch int64
	next  int64 // where the next batch begins; -1 anywhere
	// sent are the offsets of the dead letters that were acknowledged since the last commit: a batch tried again does not repeat them.
	sent  map[int64]struct{}
	marks map[string]int64 // quarantined keys and the offset that began it
	topic int64            // the fingerprint that the next commit writes down; 0: the store knows it
	// recent holds states as the store has them.
	recent *recent
	work   *work // room for the next batch
}

// New returns a Fold. An error names the field that is wrong.
func New(cfg Config) (*Fold, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	f := &Fold{
		cfg: cfg, byTopic: map[string][]Projection{}, owned: map[consumers.TopicPartition]*owned{}, topics: map[string]int64{},
		metrics: newMetrics(cfg.Registerer, cfg.Name),
	}
	for _, p := range cfg.Projections {
		f.byTopic[p.Topic()] = append(f.byTopic[p.Topic()], p)
	}
	return f, nil
}

// Claim implements consumers.Processor.
func (f *Fold) Claim(ctx context.Context, tp consumers.TopicPartition) (int64, error) {
	c, err := f.cfg.Sink.Claim(ctx, tp)
	if err != nil {
		return 0, fmt.Errorf("claim %s/%d: %w", tp.Topic, tp.Partition, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	marks := maps.Clone(c.Quarantined)
	if marks == nil {
		marks = map[string]int64{}
	}
	topic, err := sameTopic(f.cfg.Name, tp, f.topics[tp.Topic], c.Next, marks)
	if err != nil {
		return 0, err
	}
	// Promise 4: an owner begins with no states but the store's.
	o := &owned{epoch: c.Epoch, next: c.Next, sent: map[int64]struct{}{}, marks: marks, topic: topic, recent: newRecent(f.byTopic[tp.Topic]), work: newWork(f.byTopic[tp.Topic], marks)}
	o.work.recent = o.recent
	f.owned[tp] = o
	f.shareLocked()
	f.metrics.quarantined.Set(float64(f.quarantinedLocked()))
	return c.Next, nil
}

// Release implements consumers.Processor.
func (f *Fold) Release(_ context.Context, tp consumers.TopicPartition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.owned, tp)
	f.shareLocked()
	f.metrics.quarantined.Set(float64(f.quarantinedLocked()))
}

// shareLocked gives each partition its part of CacheBytes.
func (f *Fold) shareLocked() {
	for _, o := range f.owned {
		o.recent.limit.Store(f.cfg.CacheBytes / int64(len(f.owned)))
	}
}

// Reads implements consumers.FieldReader: what the projections read. One that does not tell (a method Reads of the same form) reads all.
func (f *Fold) Reads(eventType string) (names []string, all bool) {
	if r, tells := f.cfg.Sink.(EventReader); tells && r.ReadsEvents() {
		return nil, true
	}
	for _, p := range f.cfg.Projections {
		r, tells := p.(consumers.FieldReader)
		if !tells {
			return nil, true
		}
		more, all := r.Reads(eventType)
		if all {
			return nil, true
		}
		names = append(names, more...)
	}
	return names, false
}

// Close closes DeadLetters if that can be closed. The sink stays open.
func (f *Fold) Close() error {
	if c, ok := f.cfg.DeadLetters.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Process implements consumers.Processor.
func (f *Fold) Process(ctx context.Context, b consumers.Batch) error {
	o, err := f.claimed(b.TopicPartition)
	if err != nil {
		return err
	}
	if err := f.process(ctx, o, b); err != nil {
		// Promise 4: whether a commit that failed was done, and whether the partition is still ours, the store will say.
		o.recent.drop()
		return err
	}
	return nil
}

func (f *Fold) process(ctx context.Context, o *owned, b consumers.Batch) error {
	if o.next != -1 && o.next != b.From {
		return fmt.Errorf("batch of %s/%d from %d, the position is %d: %w", b.Topic, b.Partition, b.From, o.next, consumers.ErrPosition)
	}
	var refused map[int64]error
	for {
		err := f.attempt(ctx, o, b, refused)
		more, again := refusals(err, refused)
		if !again {
			return err
		}
		refused = more
	}
}

// attempt is one try to bring a batch into the sink. What the sink has refused is poison.
func (f *Fold) attempt(ctx context.Context, o *owned, b consumers.Batch, refused map[int64]error) error {
	w := o.work
	w.reset()
	w.refused = refused
	if err := w.load(ctx, f.cfg.Sink, b.Events); err != nil {
		return fmt.Errorf("load states of %s/%d from %d: %w", b.Topic, b.Partition, b.From, err)
	}
	for i := range b.Events {
		if err := w.apply(&b.Events[i]); err != nil {
			return fmt.Errorf("fold %s/%d offset %d: %w", b.Topic, b.Partition, b.Events[i].Offset, err)
		}
	}
	if err := f.withinLimits(w, b); err != nil {
		return err
	}
	// Promise 7: the position moves only after the dead letters are acknowledged.
	if err := f.send(ctx, o, w.letters); err != nil {
		return err
	}
	c := w.commit(b, o.epoch)
	c.Quarantine = withTopic(c.Quarantine, o.topic)
	if err := f.cfg.Sink.Commit(ctx, c); err != nil {
		return fmt.Errorf("commit %s/%d from %d to %d: %w", b.Topic, b.Partition, b.From, b.Next, err)
	}
	o.next, o.topic = b.Next, 0
	clear(o.sent)
	o.recent.take(w)
	f.committed(o, w)
	return nil
}

// owner returns a partition to one who commits other than by Process: recent states are forgotten.
func (f *Fold) owner(tp consumers.TopicPartition) (*owned, error) {
	o, err := f.claimed(tp)
	if err == nil {
		o.recent.drop()
	}
	return o, err
}

func (f *Fold) claimed(tp consumers.TopicPartition) (*owned, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.owned[tp]
	if o == nil {
		return nil, fmt.Errorf("%s/%d: %w", tp.Topic, tp.Partition, errNotOwned)
	}
	return o, nil
}

// send sends the letters that this owner has not sent yet.
func (f *Fold) send(ctx context.Context, o *owned, letters []consumers.DeadLetter) error {
	var fresh []consumers.DeadLetter
	for _, l := range letters {
		if _, sent := o.sent[l.Offset]; !sent {
			fresh = append(fresh, l)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := f.cfg.DeadLetters.Send(ctx, fresh); err != nil {
		return fmt.Errorf("dead letters of %s/%d: %w", fresh[0].Topic, fresh[0].Partition, err)
	}
	for _, l := range fresh {
		o.sent[l.Offset] = struct{}{}
	}
	f.metrics.letters(fresh)
	return nil
}

// committed takes over what the store has taken.
func (f *Fold) committed(o *owned, w *work) {
	f.metrics.batch(w)
	if len(w.fresh) == 0 {
		return
	}
	f.mu.Lock()
	maps.Copy(o.marks, w.fresh)
	f.metrics.quarantined.Set(float64(f.quarantinedLocked()))
	f.mu.Unlock()
	for _, l := range w.letters {
		if first, ok := w.fresh[l.Key]; ok && first == l.Offset {
			f.cfg.Logger.Warn("key quarantined", "sink", f.cfg.Name, "topic", l.Topic, "partition", l.Partition, "offset", l.Offset,
				"key", l.Key, "event_id", l.ID, "err", l.Reason)
		}
	}
}

// QuarantinedKeys is the number of keys that wait behind an event which could not be applied, in the partitions of this process.
func (f *Fold) QuarantinedKeys() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quarantinedLocked()
}

func (f *Fold) quarantinedLocked() int {
	n := 0
	for _, o := range f.owned {
		n += len(o.marks)
	}
	return n
}
