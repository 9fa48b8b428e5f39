package rebuild

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Client reads what is known of a sink's generations, and asks the sink for something: what a command does. The sink itself need not run for reading.
type Client struct {
	sink  string
	kafka []kgo.Opt
}

// Open returns the client of a sink. kafka says how Kafka is reached. Nothing is connected to before the first call.
func Open(sink string, kafka ...kgo.Opt) *Client { return &Client{sink: sink, kafka: kafka} }

// ErrUnreadable says that the record of generations is there and cannot be read: somebody else wrote it, or a newer program.
var ErrUnreadable = errors.New("the record of generations cannot be read")

// ErrNoAnswer says that nobody has answered a request within the time given: no process of the sink runs, or none leads yet. The request stays; one that is
// older than an hour is not carried out any more.
var ErrNoAnswer = errors.New("nobody has answered: does the sink run?")

// Read returns the newest record. That of a sink without any, which was never rebuilt and has not run yet, says that generation 1 serves; its At is zero.
func (c *Client) Read(ctx context.Context) (Record, error) {
	r, err := newReader(c.sink, c.kafka)
	if err != nil {
		return Record{}, err
	}
	defer r.close()
	if err := r.read(ctx, nil); err != nil {
		return Record{}, err
	}
	return r.view.known()
}

// known is the record, or why there is none that can be read.
func (v *view) known() (Record, error) {
	if v.broken != nil {
		return Record{}, fmt.Errorf("%s: %w: %w", Topic(v.sink), ErrUnreadable, v.broken)
	}
	return v.current(), nil
}

// Follow calls f with the newest record, and with each one that follows, progress included, until ctx ends, which is no error. A record that is followed by
// another at once may be left out. f returns an error to end it.
func (c *Client) Follow(ctx context.Context, f func(Record) error) error {
	r, err := newReader(c.sink, c.kafka)
	if err != nil {
		return err
	}
	defer r.close()
	err = r.read(ctx, nil)
	for told := (*Record)(nil); err == nil; err = r.step(ctx, nil) {
		rec, broken := r.view.known()
		if broken != nil {
			return broken
		}
		if told != nil && reflect.DeepEqual(*told, rec) {
			continue
		}
		told = &rec
		if err := f(rec); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Ask writes a request, for which it makes an id if there is none, and waits for the answer until ctx ends: then it returns ErrNoAnswer. An answer that is not OK is no
// error. The topic is made if there is none.
func (c *Client) Ask(ctx context.Context, q Request) (Answer, error) {
	if q.ID == "" {
		q.ID = rand.Text()
	}
	q.At = time.Now().UTC()
	if err := q.validate(); err != nil {
		return Answer{}, fmt.Errorf("ask sink %s to %s: %w", c.sink, q.Action, err)
	}
	if err := c.put(ctx, q); err != nil {
		return Answer{}, consumers.ClassifyKafka(fmt.Errorf("ask sink %s to %s: %w", c.sink, q.Action, err))
	}
	r, err := newReader(c.sink, c.kafka)
	if err != nil {
		return Answer{}, err
	}
	defer r.close()
	for err = r.read(ctx, nil); err == nil; err = r.step(ctx, nil) {
		if a := r.view.answers[q.ID]; a != nil {
			return *a, nil
		}
	}
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("ask sink %s to %s: %w", c.sink, q.Action, ErrNoAnswer)
	}
	return Answer{}, err
}

// writeTimeout bounds a write to the topic.
const writeTimeout = 30 * time.Second

func (c *Client) put(ctx context.Context, q Request) error {
	value, err := json.Marshal(q)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(slices.Clone(c.kafka), writing()...)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := ensure(ctx, kadm.NewClient(cl), Topic(c.sink)); err != nil {
		return err
	}
	return cl.ProduceSync(ctx, &kgo.Record{Topic: Topic(c.sink), Key: []byte(q.ID), Value: value}).FirstErr()
}

// writing are the options of those who write to the topic.
func writing() []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(maxRecord + 1<<20),
		kgo.MetadataMinAge(metadataMinAge), kgo.UnknownTopicRetries(50), kgo.RecordDeliveryTimeout(writeTimeout),
	}
}

// ensure makes the topic of generations: one partition, so that what is written has an order, and compacted, so that the newest record stays and an answer takes the place of its
// request.
func ensure(ctx context.Context, adm *kadm.Client, topic string) error {
	configs := map[string]*string{
		"cleanup.policy":            kadm.StringPtr("compact"),
		"max.message.bytes":         kadm.StringPtr(strconv.Itoa(maxRecord + 1<<20)),
		"segment.bytes":             kadm.StringPtr(strconv.Itoa(16 << 20)),
		"min.cleanable.dirty.ratio": kadm.StringPtr("0.1"),
	}
	_, err := adm.CreateTopic(ctx, 1, -1, configs, topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}
