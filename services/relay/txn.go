package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnFeature is the cluster feature in whose version 2 (KIP-890, Kafka 4.0) a partition joins a transaction with the first batch
// that is sent to it, and the end of a transaction gives the producer a new epoch.
const (
	txnFeature        = "transaction.version"
	txnFeatureVersion = 2
)

// direct is a producer that sends encoded batches itself, for brokers with transactions of version 2. What it leaves to the clients:
// connections, the coordinators, and taking the transactional ids.
type direct struct {
	*producer
	compressor kgo.Compressor
	limit      func(topic string) int
	senders    [2]*sender
	// encoder and wire are for records that come as such.
	encoder *encoder
	wire    wire
}

// newDirect makes a direct producer of one that has taken its ids; nil if the brokers are too old.
func newDirect(ctx context.Context, cfg Config, p *producer, limit func(topic string) int) (*direct, error) {
	fit, err := hasTransactions2(ctx, p.clients[0])
	if err != nil || !fit {
		return nil, err
	}
	d := &direct{producer: p, limit: limit}
	if d.compressor, err = kgo.DefaultCompressor(codecs[cfg.Compression]); err != nil {
		return nil, fmt.Errorf("compress with %s: %w", cfg.Compression, err)
	}
	d.encoder = d.newEncoder()
	for i, client := range p.clients {
		id, epoch, err := client.ProducerID(ctx)
		if err != nil {
			return nil, fmt.Errorf("take transactional id %d: %w", i, err)
		}
		d.senders[i] = &sender{client: client, txnID: transactionalID(cfg.Outbox, int64(i)), patience: cfg.PublishTimeout / sendings}
		d.senders[i].adopt(id, epoch)
	}
	return d, nil
}

func hasTransactions2(ctx context.Context, client *kgo.Client) (bool, error) {
	raw, err := client.Request(ctx, kmsg.NewPtrApiVersionsRequest())
	if err != nil {
		return false, fmt.Errorf("ask the broker what it can do: %w", err)
	}
	for _, f := range raw.(*kmsg.ApiVersionsResponse).FinalizedFeatures {
		if f.Name == txnFeature {
			return f.MaxVersionLevel >= txnFeatureVersion, nil
		}
	}
	return false, nil
}

// newEncoder returns an encoder for the events of pages.
func (d *direct) newEncoder() *encoder { return newEncoder(d.compressor, d.limit) }

func (d *direct) publish(ctx context.Context, t int64, records []*kgo.Record, events *wire) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	d.wire.reset()
	for _, r := range records {
		d.encoder.add(&d.wire, r, true)
	}
	d.encoder.sealAll(&d.wire)
	batches := d.wire.batches
	if events != nil {
		batches = slices.Concat(events.batches, batches)
	}
	if err := d.senders[t%2].send(ctx, batches); err != nil {
		return fmt.Errorf("publish %d batches in transaction %d: %w", len(batches), t, err)
	}
	return nil
}

func (d *direct) commit(ctx context.Context, t int64) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return wrap(d.senders[t%2].end(ctx, true), fmt.Sprintf("commit transaction %d", t))
}

// abort ends what is open, as a courtesy.
func (d *direct) abort(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range d.senders {
		if s.open {
			all.Go(func() { _ = s.end(ctx, false) })
		}
	}
	all.Wait()
}

// end ends the transaction. After an error nobody knows how it ended.
func (s *sender) end(ctx context.Context, commit bool) error {
	for pauses := 0; ; pauses++ {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = s.txnID, s.id, s.epoch, commit
		resp, err := req.RequestWith(ctx, s.client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if errors.Is(err, kerr.ConcurrentTransactions) {
			if err = sleep(ctx, pauseForEnd(pauses)); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		s.open = false
		if resp.ProducerID >= 0 {
			s.adopt(resp.ProducerID, resp.ProducerEpoch)
		}
		return nil
	}
}
