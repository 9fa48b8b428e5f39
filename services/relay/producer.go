package relay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// publisher writes transactions. *direct is the one on Kafka, *producer the one on brokers before 4.0, *atLeastOnce the one on
// brokers without transactions.
type publisher interface {
	// publish sends transaction t and returns when every record is acknowledged. Nothing of it is visible yet. events are
	// those that are encoded already; nil where the publisher gave no wire to encode them to.
	publish(ctx context.Context, t int64, records []*kgo.Record, events *wire) error
	// commit ends transaction t. After an error nobody knows how it ended.
	commit(ctx context.Context, t int64) error
}

// producer is a pair of transactional clients used in turn.
//
// Promise 3: transaction t is always written with id t mod 2, so that two relays which each fenced one of the ids can
// never both commit t.
type producer struct {
	clients [2]*kgo.Client
	// epochs are the epochs in which fence took the producer ids.
	epochs  map[int64]int16
	timeout time.Duration // of publish, and of commit
}

// newProducer makes both clients. batchBytes returns how large a batch a topic takes.
func newProducer(cfg Config, batchBytes func(topic string) int) (*producer, error) {
	p := &producer{timeout: cfg.PublishTimeout}
	for i := range p.clients {
		client, err := newClient(cfg.Kafka, producerOpts(cfg, int64(i), batchBytes)...)
		if err != nil {
			p.close()
			return nil, err
		}
		p.clients[i] = client
	}
	return p, nil
}

func producerOpts(cfg Config, t int64, batchBytes func(topic string) int) []kgo.Opt {
	return []kgo.Opt{
		kgo.TransactionalID(transactionalID(cfg.Outbox, t)),
		kgo.TransactionTimeout(cfg.TransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[cfg.Compression], kgo.NoCompression()),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return int32(batchBytes(topic)) }),
		kgo.ManualFlushing(), // a transaction is sent when it is whole: in few, large batches
		kgo.RecordRetries(recordRetries),
		kgo.MaxBufferedRecords(2*maxPageSize + 1000),
	}
}

// recordRetries is how often a refusal that may pass, such as NOT_ENOUGH_REPLICAS, is answered by sending again, for some four
// seconds. Then the session ends with the refusal for a reason; waiting for PublishTimeout instead would hide it.
const recordRetries = 4

// newClient makes a client that sees a topic soon after it was made: by default it would look every 5 s at most.
func newClient(kafka []kgo.Opt, more ...kgo.Opt) (*kgo.Client, error) {
	opts := append([]kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond)}, kafka...)
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	return client, nil
}

// fence takes both transactional ids, which aborts what an earlier relay left open and stops it from committing more.
func (p *producer) fence(ctx context.Context, point func(string)) error {
	p.epochs = make(map[int64]int16, len(p.clients))
	for i, client := range p.clients {
		point(pointFence)
		id, epoch, err := client.ProducerID(ctx)
		if err == nil && id < 0 {
			err = errNoProducerID
		}
		if err != nil {
			return fmt.Errorf("take transactional id %d: %w", i, err)
		}
		p.epochs[id] = epoch
	}
	point(pointFenced)
	return nil
}

func (p *producer) publish(ctx context.Context, t int64, records []*kgo.Record, _ *wire) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	client := p.clients[t%2]
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction %d: %w", t, err)
	}
	acks := newAcks(len(records))
	for _, r := range records {
		client.Produce(ctx, r, acks.done)
	}
	err := client.Flush(ctx) // ends early only with ctx
	if refused := acks.wait(ctx); refused != nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("publish %d records in transaction %d: %w", len(records), t, err)
	}
	return nil
}

func (p *producer) commit(ctx context.Context, t int64) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := p.clients[t%2].EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit transaction %d: %w", t, err)
	}
	return nil
}

// abort ends what is open, so that readers need not wait for a successor or the transaction's timeout. It is a courtesy:
// fence does it for certain.
func (p *producer) abort(ctx context.Context) {
	var all sync.WaitGroup
	for _, client := range p.clients {
		all.Go(func() {
			if client.AbortBufferedRecords(ctx) == nil {
				_ = client.EndTransaction(ctx, kgo.TryAbort)
			}
		})
	}
	all.Wait()
}

func (p *producer) close() {
	for _, client := range p.clients {
		if client != nil {
			client.Close()
		}
	}
}

// acks waits for the acknowledgements of a transaction's records.
type acks struct {
	mu   sync.Mutex // guards the following
	left int
	err  error // the first

	all chan struct{} // closed when left is 0 or err is set
}

func newAcks(n int) *acks { return &acks{left: n, all: make(chan struct{})} }

func (a *acks) done(r *kgo.Record, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left--
	if a.err != nil {
		return
	}
	a.err = refused(r, err)
	if err != nil || a.left == 0 {
		close(a.all)
	}
}

func (a *acks) wait(ctx context.Context) error {
	select {
	case <-a.all:
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.err
	case <-ctx.Done():
		return fmt.Errorf("not acknowledged: %w", ctx.Err())
	}
}
