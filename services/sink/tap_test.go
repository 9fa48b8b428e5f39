package sink

import (
	"context"
	"sync"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
)

// taps are a test's own doings in the stores of a vault, by generation. One that returns an error ends the call with it. nil: nothing.
type taps struct {
	commit            func(ctx context.Context, n int, c fold.Commit) error
	claim             func(n int, tp consumers.TopicPartition)
	positions, finish func(ctx context.Context, n int) error
	serve             func(ctx context.Context, n int) error
	// committed is called behind a commit: its error comes back although everything is stored.
	committed func(n int, c fold.Commit) error
	// await, where set, makes the stores such as wait for their readers.
	await func(ctx context.Context, n int, tell func(string)) error
}

// on is a store with taps.
func (t *taps) on(m *sinktest.Memory, n int) fold.Sink {
	one := &tap{m, t, n}
	if t.await != nil {
		return awaitingTap{one}
	}
	return one
}

var tapped sync.Map // *taps by path

// tap has a vault's stores opened from now on call what the test wants.
func (v *vault) tap(t *taps) { tapped.Store(v.cfg.Path, t) }

// tap is a store in memory that tells what is done to it.
type tap struct {
	*sinktest.Memory
	on *taps
	n  int
}

var (
	_ fold.Snapshotter  = (*tap)(nil)
	_ fold.EventKeeper  = (*tap)(nil)
	_ fold.Generational = (*tap)(nil)
	_ finisher          = (*tap)(nil)
)

func (m *tap) Commit(ctx context.Context, c fold.Commit) error {
	if m.on.commit != nil {
		if err := m.on.commit(ctx, m.n, c); err != nil {
			return err
		}
	}
	err := m.Memory.Commit(ctx, c)
	if err == nil && m.on.committed != nil {
		err = m.on.committed(m.n, c)
	}
	return err
}

func (m *tap) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	c, err := m.Memory.Claim(ctx, tp)
	if err == nil && m.on.claim != nil {
		m.on.claim(m.n, tp)
	}
	return c, err
}

func (m *tap) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	if m.on.positions != nil {
		if err := m.on.positions(ctx, m.n); err != nil {
			return nil, err
		}
	}
	return m.Memory.Positions(ctx)
}

// Finish implements finisher: it is called when both generations were compared, before the one is to serve.
func (m *tap) Finish(ctx context.Context) error {
	if m.on.finish != nil {
		return m.on.finish(ctx, m.n)
	}
	return nil
}

func (m *tap) Serve(ctx context.Context) error {
	if m.on.serve != nil {
		if err := m.on.serve(ctx, m.n); err != nil {
			return err
		}
	}
	return m.Memory.Serve(ctx)
}

// awaitingTap is a tap of a store whose readers have to be waited for.
type awaitingTap struct{ *tap }

var _ fold.Awaiter = awaitingTap{}

func (m awaitingTap) AwaitReaders(ctx context.Context, tell func(string)) error {
	return m.on.await(ctx, m.n, tell)
}
