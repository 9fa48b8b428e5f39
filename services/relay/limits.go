package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// minBatchBytes and usualBatchBytes are the smallest batch that the client can be told to make, and the one it makes untold.
const (
	minBatchBytes   = 512
	usualBatchBytes = 1_000_012
)

// limits knows how large a batch each topic takes. It belongs to one session; the producers ask it too.
type limits struct {
	cfg Config
	// refused outlives the session: a topic refused a batch of this size, whatever its config says.
	refused map[string]int

	mu    sync.Mutex // guards the following
	known map[string]int
	spans map[string]span
}

func newLimits(cfg Config, refused map[string]int) *limits {
	return &limits{cfg: cfg, refused: refused, known: map[string]int{}, spans: map[string]span{}}
}

// batch returns the size of the largest batch to send to a topic.
func (l *limits) batch(topic string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := l.known[topic]; ok {
		return n
	}
	return l.bound(topic, l.own(topic))
}

// own is the limit of the relay, whatever the topic takes.
func (l *limits) own(topic string) int {
	if topic == parkedTopic(l.cfg.Outbox) {
		return maxParkedBytes + batchOverhead
	}
	return max(l.cfg.MaxRecordBytes+batchOverhead, usualBatchBytes)
}

func (l *limits) bound(topic string, n int) int {
	if refused, ok := l.refused[topic]; ok && n >= refused {
		n = refused / 2
	}
	return max(n, minBatchBytes)
}

// record returns the size of the largest record to send to a topic.
func (l *limits) record(topic string) int {
	n := l.batch(topic) - batchOverhead
	if topic == parkedTopic(l.cfg.Outbox) {
		return n
	}
	return min(n, l.cfg.MaxRecordBytes)
}

// set takes a topic's max.message.bytes.
func (l *limits) set(topic string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[topic] = l.bound(topic, min(n, l.own(topic)))
}

// learn looks at the error that ended a session. If a topic refused a batch for its size, the next session reads its limit
// again, and sends it half as much if that has not changed or may not be read.
func (l *limits) learn(err error) {
	var r *refusedError
	if errors.As(err, &r) && tooLarge(err) && r.topic != cursorTopic(l.cfg.Outbox) {
		l.refused[r.topic] = l.batch(r.topic)
	}
}

func tooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// readLimits reads the max.message.bytes of topics, and how far from now they take timestamps. Without the right to read configs they
// stay unknown.
func (t *topics) readLimits(ctx context.Context, names ...string) error {
	described, err := t.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil && !mayNot(err) {
		return fmt.Errorf("read the configs of %d topics: %w", len(names), err)
	}
	for _, resource := range described {
		for _, c := range resource.Configs {
			if c.Key == configBefore || c.Key == configAfter {
				t.limits.setSpan(resource.Name, c.Key, c.MaybeValue())
			}
			if c.Key != "max.message.bytes" {
				continue
			}
			if n, err := strconv.Atoi(c.MaybeValue()); err == nil {
				t.limits.set(resource.Name, n)
			}
		}
	}
	return nil
}

// mayNot says that this user has no right to what was asked.
func mayNot(err error) bool {
	var refused *kadm.AuthError
	return errors.As(err, &refused)
}

// refusedError names the record that a broker refused for good, the first of its batch.
type refusedError struct {
	topic, key, event string
	err               error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("topic %s refuses the batch that begins with key %.100q, event %s: %v", e.topic, e.key, e.event, e.err)
}

func (e *refusedError) Unwrap() error { return e.err }

// final are the answers about what a batch holds; asking again does not change them.
var final = []error{
	kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.CorruptMessage,
	kerr.TopicAuthorizationFailed, kerr.InvalidTopicException, kerr.PolicyViolation,
}

// refused names the record in a final error; others it returns as they are.
func refused(r *kgo.Record, err error) error {
	if !slices.ContainsFunc(final, func(f error) bool { return errors.Is(err, f) }) {
		return err
	}
	e := &refusedError{topic: r.Topic, key: string(r.Key), event: "unknown", err: err}
	for _, h := range r.Headers {
		if h.Key == headerID {
			e.event = string(h.Value)
		}
	}
	return e
}
