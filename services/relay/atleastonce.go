package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// atLeastOnce is the publisher on a broker without transactions, or without the permission for them.
//
//	intent of t      written and acknowledged: what is sent from here on, whoever comes next sends again just so
//	events of t      first appearances are in order: the client sends a partition's batches one after the other, and fails all that
//	                 are behind a refused one
//	parked events    acknowledged after the events
//	cursor of t      written and acknowledged
//
// Nothing shuts out a relay that was frozen and wakes. What it can do is bounded like this. All records on the cursor
// partition are non-transactional, so those of one relay have consecutive offsets unless somebody else writes between
// them. A relay that starts claims the cursor with a higher epoch; its claim must land at the end of what it has read, or nobody heeds it. From
// then on the other's next record lands behind a stranger's: it sees that in the acknowledgement, sends nothing more, and
// readers skip the record for its epoch. So every event was announced before it was sent, by a relay that knew all that was
// announced before: an event has one version. What a zombie still sends are events of its last intent, with the versions
// that its successor gives them as well.
type atLeastOnce struct {
	client  *kgo.Client
	timeout time.Duration
	writer  string // of the stamps
	// batchBytes returns how large a batch a topic takes.
	batchBytes func(topic string) int
	// holds says whether this relay still leads.
	holds func() error
	point func(string)
	// offset is where the next record on the cursor partition lands if nobody else writes there.
	offset int64
	// cursor is the record of the transaction under way.
	cursor *kgo.Record
}

// errOvertaken ends a session: another relay has written to the cursor topic since this one did.
var errOvertaken = errors.New("another relay has taken over")

// newAtLeastOnce makes the client: an idempotent one if the broker lets it.
func newAtLeastOnce(ctx context.Context, cfg Config, batchBytes func(string) int) (*atLeastOnce, error) {
	a := &atLeastOnce{timeout: cfg.PublishTimeout, writer: rand.Text()[:8], batchBytes: batchBytes, point: func(string) {}}
	var err error
	if a.client, err = newClient(cfg.Kafka, a.opts(cfg)...); err != nil {
		return nil, err
	}
	_, _, err = a.client.ProducerID(ctx)
	if err == nil {
		return a, nil
	}
	a.client.Close()
	if !errors.Is(err, kerr.ClusterAuthorizationFailed) && !errors.Is(err, kerr.UnsupportedVersion) {
		return nil, fmt.Errorf("ask for a producer id: %w", err)
	}
	// One request in flight keeps the order; a lost answer repeats a batch.
	a.client, err = newClient(cfg.Kafka, append(a.opts(cfg), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))...)
	return a, err
}

func (a *atLeastOnce) opts(cfg Config) []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[cfg.Compression], kgo.NoCompression()),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return int32(a.batchBytes(topic)) }),
		kgo.ManualFlushing(),
		kgo.MaxBufferedRecords(2*maxPageSize + 1000),
	}
}

// intend implements intender.
func (a *atLeastOnce) intend(ctx context.Context, record *kgo.Record) error {
	return wrap(a.write(ctx, record), "announce a page")
}

// publish sends all but the last record, the cursor, which commit sends.
func (a *atLeastOnce) publish(ctx context.Context, t int64, records []*kgo.Record, _ *wire) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	last := len(records) - 1
	a.cursor = records[last]
	var events, own []*kgo.Record
	for _, r := range records[:last] {
		if internal(r.Topic) {
			own = append(own, r)
		} else {
			events = append(events, r)
		}
	}
	for _, part := range [][]*kgo.Record{events, own} {
		if err := a.send(ctx, part); err != nil {
			return fmt.Errorf("publish %d records, number %d: %w", len(records), t, err)
		}
		if len(part) < last {
			a.point(pointHalfway)
		}
	}
	return nil
}

func (a *atLeastOnce) commit(ctx context.Context, t int64) error {
	return wrap(a.write(ctx, a.cursor), fmt.Sprintf("write cursor %d", t))
}

// write sends a record to the cursor partition, and makes sure that nobody else has written there since the last.
func (a *atLeastOnce) write(ctx context.Context, record *kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := a.send(ctx, []*kgo.Record{record}); err != nil {
		return err
	}
	if record.Offset != a.offset {
		return fmt.Errorf("%w: the record on %s landed at offset %d, not at %d", errOvertaken, record.Topic, record.Offset, a.offset)
	}
	a.offset++
	return nil
}

// send sends records and returns when each is acknowledged. All of them are in the client before the first is sent, so that what it
// refuses takes every later record of its partition with it.
func (a *atLeastOnce) send(ctx context.Context, records []*kgo.Record) error {
	if err := a.holds(); err != nil {
		return err
	}
	if len(records) == 0 {
		return nil
	}
	acks := newAcks(len(records))
	for _, r := range records {
		a.client.Produce(ctx, r, acks.done)
	}
	if err := a.client.Flush(ctx); err != nil {
		return fmt.Errorf("not acknowledged: %w", err)
	}
	return acks.wait(ctx)
}

// claim takes the cursor over at a start. end is the offset up to which the log was read.
func (a *atLeastOnce) claim(ctx context.Context, outbox string, cur *cursor, end int64) error {
	cur.Epoch++
	cur.Writer, cur.Claim, cur.At = a.writer, true, end
	record, err := cur.record(outbox)
	if err != nil {
		return err
	}
	a.offset = end
	return wrap(a.write(ctx, record), "claim the cursor")
}

// abort does nothing: what was sent cannot be taken back.
func (a *atLeastOnce) abort(context.Context) {}

func (a *atLeastOnce) close() { a.client.Close() }
