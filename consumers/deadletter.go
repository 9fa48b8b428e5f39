package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reasons why an event is on the dead-letter topic.
const (
	// LetterPoison is the class of an event that could not be decoded or applied.
	LetterPoison = "poison"
	// LetterQuarantined is the class of an event that stands behind a poison event of its key.
	LetterQuarantined = "quarantined"
)

// DeadLetter is an event that a sink did not apply, and why.
type DeadLetter struct {
	Event
	// Class is LetterPoison or LetterQuarantined.
	Class string
	// Reason is for people: the error, or what the event waits for.
	Reason string
	// First is the offset of the poison event that began the key's quarantine; the event's own offset if it began one, or if
	// it has no key.
	First int64
}

// Headers of a dead letter, beside those of the event.
const (
	HeaderLetterClass     = "millrace-dlq-class"
	HeaderLetterReason    = "millrace-dlq-reason"
	HeaderLetterTopic     = "millrace-dlq-topic"
	HeaderLetterPartition = "millrace-dlq-partition"
	HeaderLetterOffset    = "millrace-dlq-offset"
	HeaderLetterFirst     = "millrace-dlq-first-offset"
	HeaderLetterTime      = "millrace-dlq-time"       // when it was put here, RFC 3339
	HeaderLetterEventTime = "millrace-dlq-event-time" // the event's time, for one without ce_time, RFC 3339
	HeaderLetterOmitted   = "millrace-dlq-omitted"    // size in bytes of a value that was too large to repeat
)

// Limits of the dead-letter topic. A value above maxLetterValue is named, not repeated: it stays where it was.
const (
	maxLetterValue  = 16 << 20
	maxLetterRecord = 32 << 20
	maxLetterHeader = 64 << 10 // a larger header of the event is left out of the letter
	maxReason       = 2000
	letterTimeout   = 30 * time.Second
)

// DeadLetterTopic is the topic of a sink's dead letters.
func DeadLetterTopic(sink string) string { return "__millrace." + sink + ".dead-letter" }

// DeadLetterProducer writes the dead letters of a sink. The topic is created with the first letter, with one partition, kept for
// ever. A batch that is delivered again after a crash repeats its letters: one is known by its topic, partition and offset.
type DeadLetterProducer struct {
	topic string
	cl    *kgo.Client

	mu    sync.Mutex // guards the following
	ready bool       // the topic exists
}

// NewDeadLetterProducer returns a producer for the sink's topic. The options say how Kafka is reached (brokers, TLS, SASL);
// nothing is sent before the first letter.
func NewDeadLetterProducer(sink string, opts ...kgo.Opt) (*DeadLetterProducer, error) {
	opts = append(slices.Clone(opts),
		kgo.RequiredAcks(kgo.AllISRAcks()), // idempotent as well, which is kgo's default
		kgo.ProducerBatchMaxBytes(maxLetterRecord),
		kgo.MetadataMinAge(100*time.Millisecond), // A topic just created is not known for the default of 5 s.
		kgo.UnknownTopicRetries(50),
		kgo.RecordDeliveryTimeout(letterTimeout),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("dead letters of %s: %w", sink, err)
	}
	return &DeadLetterProducer{topic: DeadLetterTopic(sink), cl: cl}, nil
}

// Send writes letters in order and returns when all are acknowledged by every replica in sync. On an error some may
// have been written; sending them again repeats those.
func (p *DeadLetterProducer) Send(ctx context.Context, letters []DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	if err := p.ensureTopic(ctx); err != nil {
		return ClassifyKafka(fmt.Errorf("create topic %s: %w", p.topic, err))
	}
	now := time.Now().UTC()
	records := make([]*kgo.Record, len(letters))
	for i := range letters {
		records[i] = letters[i].record(p.topic, now)
	}
	if err := p.produce(ctx, records); err != nil {
		return ClassifyKafka(fmt.Errorf("write %d dead letters to %s: %w", len(letters), p.topic, err))
	}
	return nil
}

// produce returns when all are acknowledged, or when ctx ends: a broker that has taken a record and says nothing holds up nobody who leaves.
func (p *DeadLetterProducer) produce(ctx context.Context, records []*kgo.Record) error {
	outcome := make(chan error, 1)
	go func() { outcome <- p.cl.ProduceSync(ctx, records...).FirstErr() }()
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close lets go of the connection.
func (p *DeadLetterProducer) Close() error {
	p.cl.Close()
	return nil
}

func (p *DeadLetterProducer) ensureTopic(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready {
		return nil
	}
	configs := map[string]*string{
		"retention.ms":      kadm.StringPtr("-1"),
		"cleanup.policy":    kadm.StringPtr("delete"),
		"max.message.bytes": kadm.StringPtr(strconv.Itoa(maxLetterRecord)),
	}
	_, err := kadm.NewClient(p.cl).CreateTopic(ctx, 1, -1, configs, p.topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	p.ready = true
	return nil
}

// record is the event's record again, with headers that say why it is here.
func (l *DeadLetter) record(topic string, now time.Time) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: []byte(l.Key), Value: l.Value, Timestamp: now}
	headers := l.Headers()
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		if len(k)+len(headers[k]) > maxLetterHeader {
			continue
		}
		r.Headers = append(r.Headers, header(k, headers[k]))
	}
	r.Headers = append(r.Headers,
		header(HeaderLetterClass, l.Class),
		header(HeaderLetterReason, cut(l.Reason, maxReason)),
		header(HeaderLetterTopic, l.Topic),
		header(HeaderLetterPartition, strconv.Itoa(int(l.Partition))),
		header(HeaderLetterOffset, strconv.FormatInt(l.Offset, 10)),
		header(HeaderLetterFirst, strconv.FormatInt(l.First, 10)),
		header(HeaderLetterTime, now.Format(time.RFC3339Nano)),
		header(HeaderLetterEventTime, l.Time.UTC().Format(time.RFC3339Nano)),
	)
	if len(l.Value) > maxLetterValue {
		r.Value = nil
		r.Headers = append(r.Headers, header(HeaderLetterOmitted, strconv.Itoa(len(l.Value))))
	}
	return r
}

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

// cut shortens text to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
