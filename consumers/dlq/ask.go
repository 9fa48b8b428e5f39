package dlq

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Request returns the request to settle the letters of a key, or the one letter without a key.
func (k Key) Request(drop consumers.Drop) consumers.Request {
	return consumers.Request{ID: rand.Text(), Topic: k.Topic, Partition: k.Partition, Key: k.Key, From: k.From, To: k.To, Drop: drop}
}

// Ask writes requests, and returns when they are durable. The control topic is made if there is none.
func (d *Desk) Ask(ctx context.Context, requests ...consumers.Request) error {
	if len(requests) == 0 {
		return nil
	}
	topic := consumers.ControlTopic(d.sink)
	cl, err := kgo.NewClient(append(slices.Clone(d.kafka), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.UnknownTopicRetries(50), kgo.RecordDeliveryTimeout(askTimeout))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := ensure(ctx, cl, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	records := make([]*kgo.Record, len(requests))
	now := time.Now().UTC()
	for i, q := range requests {
		q.At = now
		value, err := json.Marshal(q)
		if err != nil {
			return err
		}
		if _, _, err := consumers.ReadControl(value); err != nil {
			return fmt.Errorf("ask about key %q: %w", q.Key, err)
		}
		records[i] = &kgo.Record{Topic: topic, Key: []byte(q.ID), Value: value}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write %d requests to %s: %w", len(records), topic, err)
	}
	return nil
}

const askTimeout = 30 * time.Second

// ensure makes the control topic: one partition, so that requests have an order, and compacted, so that an answer takes the place of
// its request. Requests are kept until they are answered.
func ensure(ctx context.Context, cl *kgo.Client, topic string) error {
	configs := map[string]*string{
		"cleanup.policy":    kadm.StringPtr("compact"),
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(1 << 20)),
	}
	_, err := kadm.NewClient(cl).CreateTopic(ctx, 1, -1, configs, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// pause is how often answers are looked for when none comes.
const pause = 250 * time.Millisecond

// Wait returns the answers to requests, in the order of the requests; nil stands for one that ctx did not leave the time for, with the error of ctx.
// progress, if it is not nil, is called with each answer as it comes, those that say how far it is included, and now and then with nil.
func (d *Desk) Wait(ctx context.Context, requests []consumers.Request, progress func(*consumers.Answer)) ([]*consumers.Answer, error) {
	answers := make([]*consumers.Answer, len(requests))
	open := map[string]int{}
	for i, q := range requests {
		open[q.ID] = i
	}
	cl, err := kgo.NewClient(append(slices.Clone(d.kafka), kgo.ConsumeTopics(consumers.ControlTopic(d.sink)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100*time.Millisecond))...)
	if err != nil {
		return answers, err
	}
	defer cl.Close()
	for len(open) > 0 {
		polling, cancel := context.WithTimeout(ctx, pause)
		fetches := cl.PollFetches(polling)
		cancel()
		if err := ctx.Err(); err != nil {
			return answers, err
		}
		for _, r := range fetches.Records() {
			_, a, err := consumers.ReadControl(r.Value)
			if err != nil || a == nil {
				continue
			}
			i, mine := open[a.ID]
			if !mine {
				continue
			}
			if a.Outcome != consumers.Underway {
				answers[i] = a
				delete(open, a.ID)
			}
			if progress != nil {
				progress(a)
			}
		}
		if progress != nil {
			progress(nil)
		}
	}
	return answers, nil
}
