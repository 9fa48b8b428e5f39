package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Delivery says how often an event may appear in its topic.
type Delivery string

const (
	// ExactlyOnce publishes in Kafka transactions: readers with read_committed see each event once.
	ExactlyOnce Delivery = "exactly-once"
	// AtLeastOnce needs no transactions. After a crash or a takeover the last page, of at most PageSize events, can appear
	// again, with the same millrace-seq; the sinks of Millrace skip what they have seen, other consumers must do so by
	// millrace-seq or ce_id. First appearances are in order.
	AtLeastOnce Delivery = "at-least-once"
)

// delivery is a publisher as a session holds it.
type delivery interface {
	publisher
	// abort ends what is open, as a courtesy to others.
	abort(ctx context.Context)
	close()
}

// openDelivery makes the publisher and keeps others from publishing: by taking the transactional ids, where there are any.
func (s *session) openDelivery(ctx context.Context) error {
	if s.cfg.Delivery == AtLeastOnce {
		return s.openAtLeastOnce(ctx)
	}
	p, err := newProducer(s.cfg, s.topics.limits.batch)
	if err != nil {
		return err
	}
	s.producer = p
	if err := p.fence(ctx, s.r.point); err != nil {
		return explain(s.cfg.Outbox, err)
	}
	s.epochs = p.epochs
	d, err := newDirect(ctx, s.cfg, p, s.topics.limits.batch)
	if d != nil {
		s.producer = d
	}
	return err
}

func (s *session) openAtLeastOnce(ctx context.Context) error {
	if err := s.shutOut(ctx); err != nil {
		return err
	}
	a, err := newAtLeastOnce(ctx, s.cfg, s.topics.limits.batch)
	if err != nil {
		return err
	}
	a.point, a.holds = s.r.point, s.r.holds
	s.producer = a
	return nil
}

// shutOutTimeout bounds the attempt to stop a predecessor that published in transactions. A broker whose transactions do not
// work any more may be why at-least-once was chosen.
const shutOutTimeout = 5 * time.Second

// shutOut takes the transactional ids after a relay that published exactly once: it may be asleep in the middle of a
// transaction. A broker that refuses them will refuse its commit as well.
func (s *session) shutOut(ctx context.Context) error {
	cur, err := committedCursor(ctx, s.client, s.cfg.Outbox)
	if err != nil || cur == nil || cur.T == 0 || cur.Writer != "" {
		return err
	}
	p, err := newProducer(s.cfg, s.topics.limits.batch)
	if err != nil {
		return err
	}
	defer p.close()
	fence, cancel := context.WithTimeout(ctx, shutOutTimeout)
	defer cancel()
	if err := p.fence(fence, func(string) {}); err != nil {
		s.cfg.Logger.Warn("the last relay of this outbox published exactly once and could not be shut out: make sure that it does not run", "err", err)
		return ctx.Err()
	}
	s.epochs = p.epochs
	return nil
}

// own takes the cursor over where transactional ids do not do it: from a relay that delivers at least once, or as one.
func (s *session) own(ctx context.Context, log *partitionLog, cur *cursor) error {
	var err error
	if a, ok := s.producer.(*atLeastOnce); ok {
		err = a.claim(ctx, s.cfg.Outbox, cur, log.end)
	} else if cur.Writer != "" {
		err = s.claimExactlyOnce(ctx, log, cur)
	}
	if err != nil {
		return err
	}
	s.r.point(pointClaimed)
	cur.resume()
	return nil
}

// claimExactlyOnce writes the claim as a transaction. It commits only if nothing was written since the log was read.
func (s *session) claimExactlyOnce(ctx context.Context, log *partitionLog, cur *cursor) error {
	cur.T++
	cur.Epoch++
	cur.Writer, cur.Claim, cur.At = "", true, log.end
	record, err := cur.record(s.cfg.Outbox)
	if err != nil {
		return err
	}
	if err := s.producer.publish(ctx, cur.T, []*kgo.Record{record}, nil); err != nil {
		return wrap(err, "claim the cursor")
	}
	if record.Offset != log.end {
		return fmt.Errorf("claim the cursor: %w: the record landed at offset %d, not at %d", errOvertaken, record.Offset, log.end)
	}
	return wrap(s.producer.commit(ctx, cur.T), "claim the cursor")
}

// explain makes of a final refusal of the transactional ids what an operator must hear.
//
// Promise 3: exactly once is never given up silently.
func explain(outbox string, err error) error {
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return stopf(fmt.Sprintf("grant this user Write and Describe on the transactional ids with the prefix %q (kafka-acls.sh --bootstrap-server BROKER --add "+
			"--allow-principal User:NAME --operation Write --operation Describe --transactional-id %[1]s --resource-pattern-type prefixed); %s",
			transactionalIDPrefix(outbox), instead), "%w: %w", ErrNoTransactions, err)
	case errors.Is(err, kerr.UnsupportedVersion), errors.Is(err, kerr.InvalidRequest), errors.Is(err, errNoProducerID):
		return stopf("publish to a broker that has transactions; "+instead, "%w: %w", ErrNoTransactions, err)
	}
	return err
}

const instead = "or set delivery: at-least-once, which sends events again after a crash or a takeover, with the same millrace-seq: " +
	"consumers that do not skip those see them twice"

// errNoProducerID is for a broker so old that the client goes on without a producer id, and without transactions.
var errNoProducerID = errors.New("the broker gives out no producer ids")
