package sink

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/consumers/sinktest"
)

// stalling is a kind of sink, ~stalling: ~memory, whose first generation writes nothing while it is told not to. stalls are the valves by path.
var stalls sync.Map

func init() {
	kinds["~stalling"] = kind{role: Warehouse, needs: "path", bronze: true, serves: "sql",
		open: func(cfg Config, parts Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
			b, err := kinds["~memory"].open(cfg, parts, projections, logger)
			if v, ok := stalls.Load(cfg.Path); ok && err == nil && cfg.generation <= 1 {
				b.sink = stalling{b.sink.(*sinktest.Memory), v.(*valve)}
			}
			return b, err
		}}
}

// valve lets writers through, or has them wait.
type valve struct {
	mu     sync.Mutex    // guards the following
	opened chan struct{} // closed when writers may go on; nil if they may
}

func (v *valve) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.opened != nil {
		close(v.opened)
		v.opened = nil
	}
}

func (v *valve) wait(ctx context.Context) error {
	v.mu.Lock()
	opened := v.opened
	v.mu.Unlock()
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type stalling struct {
	*sinktest.Memory
	valve *valve
}

// Commit implements fold.Sink.
func (s stalling) Commit(ctx context.Context, c fold.Commit) error {
	if err := s.valve.wait(ctx); err != nil {
		return err
	}
	return s.Memory.Commit(ctx, c)
}

// While the live sink lags by more than it may, the new generation stands still; when it has come up, the building goes on.
func TestABuildStandsStillWhileTheLiveSinkLags(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.cfg.Kind = "~stalling"
	gate := &valve{}
	stalls.Store(v.cfg.Path, gate)
	t.Cleanup(gate.open)
	v.open(6000)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	gate.close()
	v.open(1)
	v.ask(rebuild.Start, &rebuild.Options{Rate: 20, MaxLag: time.Millisecond}) // it takes five minutes if nothing holds it

	var held rebuild.Progress
	v.building("the build waits for the live sink, and what was in hand is done", func(p rebuild.Progress) bool {
		before := held
		held = p
		return strings.Contains(p.Throttled, "the live sink lags by") && strings.Contains(before.Throttled, "the live sink lags by") && p.Events == before.Events && p.At.After(before.At)
	})
	for range 3 { // looks
		next := v.building("the next look", func(p rebuild.Progress) bool { return p.At.After(held.At) })
		if next.Events != held.Events || next.Lag != 1 {
			t.Errorf("%d events were built where %d were, while the live sink lags by %d", next.Events, held.Events, next.Lag)
		}
		held = next
	}
	gate.open()
	v.building("the build goes on", func(p rebuild.Progress) bool { return p.Lag == 0 && p.Events > held.Events })
	v.ask(rebuild.Abort, nil)
	v.over("aborted")
}

// building waits for progress of the rebuild that is building.
func (v *vault) building(what string, is func(rebuild.Progress) bool) rebuild.Progress {
	v.t.Helper()
	return v.until(what, func(rec rebuild.Record) bool {
		return rec.Rebuild != nil && rec.Rebuild.State == rebuild.Building && is(rec.Rebuild.Progress)
	}).Rebuild.Progress
}
