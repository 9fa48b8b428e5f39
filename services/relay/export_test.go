package relay

import (
	"context"
	"time"
)

// Points, for tests from outside.
const (
	PointFence      = pointFence
	PointFenced     = pointFenced
	PointFirst      = pointFirst
	PointClaimed    = pointClaimed
	PointIntending  = pointIntending
	PointIntended   = pointIntended
	PointHalfway    = pointHalfway
	PointProduced   = pointProduced
	PointCommitting = pointCommitting
	PointCommitted  = pointCommitted
	PointDone       = pointDone
)

// AtPoints has f called at every named point; f may block. Call it before Run.
func (r *Relay) AtPoints(f func(point string)) { r.point = f }

// LeadWithoutElection makes the relay believe that it leads, whoever else does. Call it before Run.
func (r *Relay) LeadWithoutElection() { r.LeadWithoutElectionWhile(func() error { return nil }) }

// LeadWithoutElectionWhile is LeadWithoutElection with an answer to whether the lock is held.
func (r *Relay) LeadWithoutElectionWhile(holds func() error) {
	r.lead = func(ctx context.Context) (*leadership, error) {
		return &leadership{ctx: ctx, end: func() {}, holds: holds}, ctx.Err()
	}
}

// TransactionalID is the id that transaction t of an outbox is written with.
func TransactionalID(outbox string, t int64) string { return transactionalID(outbox, t) }

func init() { lookEvery, watchEvery = 50*time.Millisecond, 250*time.Millisecond }
