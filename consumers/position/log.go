package position

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Topic is the topic that holds a sink's positions.
func Topic(sink string) string { return "__millrace." + sink + ".position" }

// Config says whose positions are kept, and where.
type Config struct {
	// Sink is the name of the sink. Required.
	Sink string
	// Kafka says how Kafka is reached: seed brokers, TLS, SASL. Required.
	Kafka []kgo.Opt
	// Timeout bounds a write, and the time until it is read back: neither is interrupted by the caller's context. Default 30 s.
	Timeout time.Duration
	// Logger gets a line for each record that is left out. Default: nothing is logged.
	Logger *slog.Logger
}

// Log keeps positions. It has the methods of a fold.Sink that concern them, for a sink to hand on to. It is safe for the lanes of one consumer.
type Log struct {
	cfg   Config
	topic string
	cl    *kgo.Client // writes

	mu      sync.Mutex // guards the following
	tail    *tail      // nil before the first claim
	owners  map[consumers.TopicPartition]held
	created bool
}

// held is what our last claim of a partition stands on.
type held struct {
	name string
	// tail is the reading by which the claim was seen to hold. Another one, begun since, may not have come so far yet: what it lacks would look as if somebody else had
	// claimed, or as if marks stood that were lifted.
	tail *tail
}

// New returns a Log. Nothing is sent before the first claim, which makes the topic.
func New(cfg Config) (*Log, error) {
	if cfg.Sink == "" || len(cfg.Kafka) == 0 {
		return nil, errors.New("position: Sink and Kafka are needed")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cl, err := kgo.NewClient(append(slices.Clone(cfg.Kafka),
		kgo.RequiredAcks(kgo.AllISRAcks()),             // idempotent as well, which is kgo's default
		kgo.RecordPartitioner(kgo.ManualPartitioner()), // 0
		kgo.ProducerBatchMaxBytes(maxRecord),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.UnknownTopicRetries(50),
		kgo.RecordDeliveryTimeout(cfg.Timeout),
	)...)
	if err != nil {
		return nil, fmt.Errorf("positions of %s: %w", cfg.Sink, err)
	}
	return &Log{cfg: cfg, topic: Topic(cfg.Sink), cl: cl, owners: map[consumers.TopicPartition]held{}}, nil
}

// Sizes, and how soon a topic that was just made is asked for again.
const (
	maxRecord      = 32 << 20
	maxSegment     = 16 << 20
	metadataMinAge = 100 * time.Millisecond
)

// Close ends the reading and lets go of the connections.
func (l *Log) Close() error {
	l.mu.Lock()
	t := l.tail
	l.tail = nil
	l.mu.Unlock()
	t.close()
	l.cl.Close()
	return nil
}

// Claim is that of fold.Sink.
func (l *Log) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	c, err := l.claim(ctx, tp)
	if err != nil {
		return c, fmt.Errorf("claim %s/%d on %s: %w", tp.Topic, tp.Partition, l.topic, consumers.ClassifyKafka(err))
	}
	return c, nil
}

func (l *Log) claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	t, err := l.following(ctx)
	if err != nil {
		return fold.Claim{}, err
	}
	name := nameOf(tp, rand.Text())
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	offset, err := l.write(ctx, l.record(name, record{Claim: true, Next: -1}))
	if err == nil {
		err = t.reach(ctx, offset)
	}
	if err != nil {
		return fold.Claim{}, err
	}
	e := t.entry(tp)
	if e.epoch != offset+1 {
		return fold.Claim{}, fmt.Errorf("somebody has claimed it since: %w", consumers.ErrFenced)
	}
	// Written down under our own name before the former owners' names go.
	records := []*kgo.Record{l.record(name, record{Epoch: e.epoch, Next: e.next, Marks: e.marks})}
	for _, former := range slices.Sorted(maps.Keys(e.names)) {
		if former != name {
			records = append(records, &kgo.Record{Topic: l.topic, Key: []byte(former)})
		}
	}
	if offset, err = l.write(ctx, records...); err == nil {
		err = t.reach(ctx, offset)
	}
	if err != nil {
		return fold.Claim{}, err
	}
	l.mu.Lock()
	l.owners[tp] = held{name, t}
	l.mu.Unlock()
	return fold.Claim{Epoch: e.epoch, Next: e.next, Quarantined: maps.Clone(e.marks)}, nil
}

// Check returns ErrFenced or ErrPosition if a commit would be refused, as far as is known without asking.
func (l *Log) Check(c fold.Commit) error {
	o := l.held(c.TopicPartition)
	if o.tail == nil {
		return fmt.Errorf("%s/%d was not claimed: %w", c.Topic, c.Partition, consumers.ErrFenced)
	}
	if err := o.tail.failure(); err != nil {
		return fmt.Errorf("%s is no longer read (%w): %w", l.topic, err, consumers.ErrPosition) // claim anew, read anew
	}
	return verdict(o.tail.entry(c.TopicPartition), c)
}

func (l *Log) held(tp consumers.TopicPartition) held {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owners[tp]
}

// verdict says whether a commit would be refused.
//
// Promise 4: an owner that was replaced is refused, and so is a batch that does not begin at the position.
func verdict(e entry, c fold.Commit) error {
	switch {
	case e.epoch != c.Epoch:
		return fmt.Errorf("epoch %d, claimed at %d: %w", c.Epoch, e.epoch, consumers.ErrFenced)
	case e.next != -1 && e.next != c.From:
		return fmt.Errorf("the stored position is %d: %w", e.next, consumers.ErrPosition)
	}
	return nil
}

// Commit is that of fold.Sink for position and marks; Events and Changes are not looked at. A deadline of ctx bounds it, as Config.Timeout does; that ctx is cancelled
// does not interrupt what was sent.
func (l *Log) Commit(ctx context.Context, c fold.Commit) error {
	if err := l.commit(ctx, c); err != nil {
		return fmt.Errorf("move %s/%d from %d to %d on %s: %w", c.Topic, c.Partition, c.From, c.Next, l.topic, consumers.ClassifyKafka(err))
	}
	return nil
}

func (l *Log) commit(ctx context.Context, c fold.Commit) error {
	if err := l.Check(c); err != nil {
		return err
	}
	o := l.held(c.TopicPartition)
	t := o.tail
	e := t.entry(c.TopicPartition)
	state := e.after(c)
	if state.Next == e.next && maps.Equal(state.Marks, e.marks) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// What was sent may be stored, whether or not somebody waits for it: we do.
	until := time.Now().Add(l.cfg.Timeout)
	if at, ok := ctx.Deadline(); ok && at.Before(until) {
		until = at
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	offset, err := l.write(ctx, l.record(o.name, state))
	if err == nil {
		err = t.reach(ctx, offset)
	}
	if err != nil {
		return err
	}
	if now := t.entry(c.TopicPartition); now.epoch != c.Epoch {
		return fmt.Errorf("epoch %d, claimed at %d: %w", c.Epoch, now.epoch, consumers.ErrFenced)
	}
	return nil
}

// Positions is that of fold.Sink.
func (l *Log) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	t, err := l.following(ctx)
	if err == nil {
		err = l.sync(ctx, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.topic, consumers.ClassifyKafka(err))
	}
	return t.positions(), nil
}

// syncName is under which nothing is ever kept.
const syncName = "/"

// sync returns when everything that was written before is read: a record of our own that is read back is behind it.
func (l *Log) sync(ctx context.Context, t *tail) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	offset, err := l.write(ctx, &kgo.Record{Topic: l.topic, Key: []byte(syncName)})
	if err != nil {
		return err
	}
	return t.reach(ctx, offset)
}

func (l *Log) record(name string, v record) *kgo.Record {
	value, _ := json.Marshal(v) // numbers and text cannot fail
	return &kgo.Record{Topic: l.topic, Key: []byte(name), Value: value}
}

// write returns the offset of the last record when all are durable. When ctx ends it is not known whether they are, nor whether they will be: the client does not take back
// what a broker that fell silent may have. That does no harm, for a record that comes late stands behind those of later claims, or says what the next one says again.
func (l *Log) write(ctx context.Context, records ...*kgo.Record) (int64, error) {
	done := make(chan error, len(records))
	for _, r := range records {
		// Not with ctx: the client fails whatever waits behind a record whose context has ended.
		l.cl.TryProduce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { done <- err })
	}
	for range records {
		var err error
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
	}
	return records[len(records)-1].Offset, nil
}

// following returns the tail, which it starts if there is none or it has failed.
func (l *Log) following(ctx context.Context) (*tail, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail != nil && l.tail.failure() == nil {
		return l.tail, nil
	}
	if !l.created {
		if err := l.create(ctx); err != nil {
			return nil, fmt.Errorf("make sure of the topic: %w", err)
		}
		l.created = true
	}
	l.tail.close()
	t, err := follow(l.cfg, l.topic)
	if err != nil {
		return nil, err
	}
	l.tail = t
	return t, nil
}

// create makes the topic: one partition, for its order is what counts, and compacted in small segments, for it is read as a whole.
func (l *Log) create(ctx context.Context) error {
	adm := kadm.NewClient(l.cl)
	if there, err := adm.ListTopics(ctx, l.topic); err == nil && there.Has(l.topic) {
		return l.checkCompacted(ctx, adm) // maybe somebody else made it for us, who may
	}
	set := func(n string) *string { return &n }
	_, err := adm.CreateTopic(ctx, 1, -1, map[string]*string{
		"cleanup.policy":            set("compact"),
		"segment.bytes":             set(fmt.Sprint(maxSegment)),
		"min.cleanable.dirty.ratio": set("0.1"),
		"min.compaction.lag.ms":     set("600000"),
		"max.message.bytes":         set(fmt.Sprint(maxRecord)),
	}, l.topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return l.checkCompacted(ctx, adm)
	}
	return err
}

// ErrForgets stops a sink whose position topic would lose the positions of partitions that were quiet for long: all of their events would come again.
var ErrForgets = errors.New("the position topic may delete what it holds")

// checkCompacted refuses a topic that was made for another use. Without the right to read configs nothing can be said.
func (l *Log) checkCompacted(ctx context.Context, adm *kadm.Client) error {
	described, err := adm.DescribeTopicConfigs(ctx, l.topic)
	if consumers.Classify(consumers.ClassifyKafka(err)) == consumers.Systemic {
		return nil
	}
	if err != nil {
		return err
	}
	resource, err := described.On(l.topic, nil)
	if err != nil || resource.Err != nil {
		return nil
	}
	for _, c := range resource.Configs {
		if policy := c.MaybeValue(); c.Key == "cleanup.policy" && policy != "compact" {
			return consumers.AsSystemic(fmt.Errorf("%w: cleanup.policy is %s; set it: kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config cleanup.policy=compact",
				ErrForgets, policy, l.topic))
		}
	}
	return nil
}
