package verify

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/dlq"
)

// Broken is a key of a topic to be folded anew.
type Broken struct {
	Topic string `json:"topic"`
	Key   string `json:"key"`
	// Remove takes away a state although there is no event of the key.
	Remove bool `json:"remove,omitempty"`
}

// Mended says what became of a key.
type Mended struct {
	Broken
	Partition int32             `json:"partition"`
	Outcome   consumers.Outcome `json:"outcome"`
	// Events were applied.
	Events int64     `json:"events"`
	At     time.Time `json:"at"`
	// Detail says for a person why it was left as it is.
	Detail string `json:"detail,omitempty"`
}

// BrokenKeys are the keys that a result shows to differ, of the entities that are asked for (none: all). topicOf says which topic an entity follows.
func (r *Result) BrokenKeys(entities []string, topicOf map[string]string) []Broken {
	seen := map[Broken]bool{}
	for _, entity := range slices.Sorted(maps.Keys(r.Entities)) {
		if len(entities) > 0 && !slices.Contains(entities, entity) {
			continue
		}
		for _, d := range r.Entities[entity].Differences {
			seen[Broken{Topic: topicOf[entity], Key: d.Key, Remove: d.Kind == compare.Unexpected}] = true
		}
	}
	for b := range seen {
		if b.Remove && seen[Broken{Topic: b.Topic, Key: b.Key}] {
			delete(seen, b)
		}
	}
	out := slices.Collect(maps.Keys(seen))
	slices.SortFunc(out, func(a, b Broken) int { return compareText(a.Topic, b.Topic, a.Key, b.Key) })
	return out
}

func compareText(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Mend asks the processes of a sink to fold keys anew, and waits for the answers. A key that ctx did not leave the time for has no Outcome, and the error is that
// of ctx: what was asked stays, and is carried out when a process runs. progress, if not nil, is called with each answer, and now and then with nil.
func Mend(ctx context.Context, sink string, kafka []kgo.Opt, keys []Broken, progress func(*consumers.Answer)) ([]Mended, error) {
	m, err := newMender(ctx, sink, kafka, keys)
	if err != nil {
		return nil, err
	}
	out := make([]Mended, len(keys))
	var asked []consumers.Request
	for i, b := range keys {
		out[i] = Mended{Broken: b, Partition: compare.PartitionOf(b.Key, m.partitions[b.Topic])}
		q, err := m.request(b, out[i].Partition)
		if err != nil {
			return nil, err
		}
		asked = append(asked, q)
	}
	answers, err := m.ask(ctx, asked, progress)
	for i, a := range answers {
		out[i].take(a)
		if a != nil && a.Outcome == consumers.Nothing && err == nil {
			err = m.elsewhere(ctx, &out[i], progress)
		}
	}
	return out, err
}

func (o *Mended) take(a *consumers.Answer) {
	if a != nil {
		o.Partition, o.Outcome, o.Events, o.At, o.Detail = a.Partition, a.Outcome, a.Applied, a.At, a.Detail
	}
}

// mender makes requests.
type mender struct {
	desk       *dlq.Desk
	partitions map[string]int32
	skip       map[Broken][]int64
}

func newMender(ctx context.Context, sink string, kafka []kgo.Opt, keys []Broken) (*mender, error) {
	m := &mender{desk: dlq.New(sink, kafka...), partitions: map[string]int32{}, skip: map[Broken][]int64{}}
	cl, err := kgo.NewClient(kafka...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var topics []string
	wanted := map[Broken]bool{}
	for _, b := range keys {
		topics = append(topics, b.Topic)
		wanted[Broken{Topic: b.Topic, Key: b.Key}] = true
	}
	details, err := kadm.NewClient(cl).ListTopics(ctx, topics...)
	if err == nil {
		err = details.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask how many partitions the topics have: %w", err)
	}
	for topic, d := range details {
		m.partitions[topic] = int32(len(d.Partitions))
	}
	return m, m.dropped(ctx, wanted)
}

// dropped finds the events of the keys that were given up.
func (m *mender) dropped(ctx context.Context, wanted map[Broken]bool) error {
	type place struct {
		consumers.TopicPartition
		offset int64
	}
	keys := map[place]Broken{}
	err := m.desk.List(ctx, dlq.Filter{Settled: true}, func(e dlq.Entry) error {
		if b := (Broken{Topic: e.Topic, Key: e.Key}); wanted[b] {
			keys[place{e.TopicPartition, e.Offset}] = b
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return m.desk.Fates(ctx, func(tp consumers.TopicPartition, offset int64, fate dlq.Fate) error {
		if b, ok := keys[place{tp, offset}]; ok && fate == dlq.FateDropped && !slices.Contains(m.skip[b], offset) {
			m.skip[b] = append(m.skip[b], offset)
		}
		return nil
	})
}

func (m *mender) request(b Broken, partition int32) (consumers.Request, error) {
	skip := m.skip[Broken{Topic: b.Topic, Key: b.Key}]
	if len(skip) > consumers.MaxSkip {
		return consumers.Request{}, fmt.Errorf("%d events of key %q were discarded, more than a repair leaves out (%d): rebuild the sink instead", len(skip), b.Key, consumers.MaxSkip)
	}
	return consumers.Request{ID: rand.Text(), Topic: b.Topic, Partition: partition, Key: b.Key, Repair: true, Skip: skip, Remove: b.Remove}, nil
}

func (m *mender) ask(ctx context.Context, asked []consumers.Request, progress func(*consumers.Answer)) ([]*consumers.Answer, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	if err := m.desk.Ask(ctx, asked...); err != nil {
		return nil, err
	}
	return m.desk.Wait(ctx, asked, progress)
}

// elsewhere asks the other partitions for a key that is not where Kafka's own clients would put it.
func (m *mender) elsewhere(ctx context.Context, o *Mended, progress func(*consumers.Answer)) error {
	var asked []consumers.Request
	for p := range m.partitions[o.Topic] {
		if p == o.Partition {
			continue
		}
		q, err := m.request(Broken{Topic: o.Topic, Key: o.Key}, p)
		if err != nil {
			return err
		}
		asked = append(asked, q)
	}
	answers, err := m.ask(ctx, asked, progress)
	for _, a := range answers {
		if a != nil && a.Outcome != consumers.Nothing {
			o.take(a)
		}
	}
	if o.Outcome == consumers.Nothing {
		o.Detail = "the topic has no event of this key"
	}
	return err
}
