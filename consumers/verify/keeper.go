package verify

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Keeper verifies a sink in the process that runs it: now and then by itself, and when somebody asks. One run goes on at a time.
type Keeper struct {
	sink    string
	live    Live
	log     *slog.Logger
	metrics *metrics
	busy    chan struct{} // holds a token while a run goes on
}

// ErrBusy says that a run goes on already.
var ErrBusy = errors.New("the sink is being verified already: wait until that is done")

// ErrNotReady says that the store is not open.
var ErrNotReady = errors.New("the sink is not ready: it has not opened its store yet, or has closed it")

// Live returns what is to be verified as it is now, a context for the run, and what is to be called when that has ended; or why nothing can be.
type Live func(context.Context) (Config, context.Context, func(), error)

// NewKeeper makes one. reg may be nil.
func NewKeeper(sink string, entities []string, live Live, log *slog.Logger, reg prometheus.Registerer) *Keeper {
	return &Keeper{sink: sink, live: live, log: log, metrics: newMetrics(reg, sink, entities), busy: make(chan struct{}, 1)}
}

// Verify runs once; ErrBusy if a run goes on.
func (k *Keeper) Verify(ctx context.Context, opts Options) (*Result, error) {
	select {
	case k.busy <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	defer func() { <-k.busy }()
	cfg, ctx, release, err := k.live(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := Run(ctx, cfg, opts)
	if err != nil {
		return nil, err
	}
	k.metrics.done(r)
	return r, nil
}

// Every verifies one key in sample every so often, other keys each time, until ctx ends.
func (k *Keeper) Every(ctx context.Context, every time.Duration, sample uint64) {
	t := time.NewTicker(every)
	defer t.Stop()
	for turn := uint64(time.Now().Unix()); ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r, err := k.Verify(ctx, Options{Sample: sample, Turn: turn})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrBusy):
		case err != nil:
			k.log.Warn("the sink could not be verified; it is tried again", "in", every, "err", err)
		case r.Differences > 0:
			k.log.Error("the sink differs from its topics: millrace verify "+k.sink+" says where", "differences", r.Differences, "sample", sample)
		default:
			k.log.Info("verified: the sink is as its topics say", "sample", sample, "took", r.Took)
		}
	}
}
