package peer

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topic is the topic of one run, watched from outside.
type topic struct {
	name    string
	brokers []string
	client  *kgo.Client
	admin   *kadm.Client
}

func newTopic(ctx context.Context, o Options, name string) (*topic, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.brokers()...))
	if err != nil {
		return nil, fmt.Errorf("make Kafka client: %w", err)
	}
	t := &topic{name: name, brokers: o.brokers(), client: client, admin: kadm.NewClient(client)}
	created, err := t.admin.CreateTopic(ctx, int32(o.Partitions), 1, nil, name)
	if err == nil {
		err = created.Err
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	return t, nil
}

// count returns how many records the topic holds. They are not transactional: offsets have no gaps.
func (t *topic) count(ctx context.Context) (int, error) {
	ends, err := t.admin.ListEndOffsets(ctx, t.name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the end of topic %s: %w", t.name, err)
	}
	n := 0
	ends.Each(func(end kadm.ListedOffset) { n += int(end.Offset) })
	return n, nil
}

// read hands the number of each event to each, and when it arrived, in the order of arrival, from the topic's beginning on.
// It returns once done, asked after each fetch, says so.
func (t *topic) read(ctx context.Context, each func(n int, arrived time.Time), done func() bool) error {
	consumer, err := kgo.NewClient(kgo.SeedBrokers(t.brokers...), kgo.ConsumeTopics(t.name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMinBytes(1), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	defer consumer.Close()
	for !done() {
		waiting, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := consumer.PollFetches(waiting)
		cancel()
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fetches.Err0(); err != nil && waiting.Err() == nil {
			return fmt.Errorf("read topic %s: %w", t.name, err)
		}
		for _, r := range fetches.Records() {
			n, err := number(r)
			if err != nil {
				return err
			}
			each(n, now)
		}
	}
	return nil
}

// number returns the event's number, out of the id that the router has put into a header.
func number(r *kgo.Record) (int, error) {
	for _, h := range r.Headers {
		if h.Key != "id" {
			continue
		}
		digits := strings.ReplaceAll(string(h.Value), "-", "")
		if len(digits) != 32 {
			break
		}
		n, err := strconv.ParseUint(digits[16:], 16, 31)
		if err != nil {
			break
		}
		return int(n), nil
	}
	return 0, fmt.Errorf("record %d of partition %d has no header with the id of an event", r.Offset, r.Partition)
}

func (t *topic) close() error {
	if t == nil {
		return nil
	}
	defer t.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := t.admin.DeleteTopics(ctx, t.name); err != nil {
		return fmt.Errorf("delete topic %s: %w", t.name, err)
	}
	return nil
}
