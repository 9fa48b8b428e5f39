package rebuild

import (
	"context"

	"github.com/millrace/millrace/consumers/fold"
)

// Host is the process in which a Job works: it opens generations, and lets the one that serves be replaced.
type Host interface {
	// Declared is what a new generation is built by: the declarations as they are configured.
	Declared() Generation
	// Running is what a generation runs by that serves in this process; false if it does not.
	Running(number int) (Generation, bool)
	// Stopped is why a generation that serves in this process is not fed any more, though the process goes on; nil if it is.
	Stopped(number int) error
	// Open opens a generation beside the others. One that this process has open already is shared. building says that nobody reads it, for it is being made.
	Open(ctx context.Context, number int, g *Generation, building bool) (Store, error)
	// Remove removes a generation that cannot be opened any more: its declarations need what the schemas do not have, or somebody has removed a part of it. What does not serve has to go all
	// the same.
	Remove(ctx context.Context, number int, g *Generation) error
	// Offer hands over a store and its feed, which become the host's with the record that says that this generation serves. Until then they are the Job's, which may take the
	// offer back: false says that it comes too late.
	Offer(number int, s Store, f *Feed)
	TakeBack(number int) bool
	// Feeding is the context of feeds: they may outlive the Job.
	Feeding() context.Context
}

// Store is an open generation.
type Store interface {
	// Sink keeps the states.
	Sink() fold.Sink
	// Projections are the compiled declarations.
	Projections() []fold.Projection
	// Feed is what feeding it needs, without Allowed.
	Feed() FeedConfig
	// Prepare makes what readers need beside the states, such as the models of a warehouse. Repeated it does what is left.
	Prepare(ctx context.Context) error
	// Effects says whether what leaves the store (purges) does. It does not of one that does not serve.
	Effects(on bool)
	// Close lets go of it.
	Close() error
}

// live says whether the record has a generation fed by every process of the sink.
func (r *Record) live(n int) bool {
	return r.Serving == n && (r.Rebuild == nil || r.Rebuild.State != CuttingOver)
}

// Live says whether every process of the sink feeds a generation.
func (r Record) Live(n int) bool { return r.live(n) }

// beside is the generation that whoever leads feeds beside the one that serves; 0 if there is none.
func (r *Record) beside() int {
	b := r.Rebuild
	if b == nil {
		return 0
	}
	switch b.State {
	case Building, CatchingUp, Verifying, Refused:
		return b.New
	case CuttingOver:
		return b.target()
	case Soaking:
		return b.Old
	}
	return 0
}

// target is the generation that is to serve.
func (b *Rebuild) target() int {
	if b.RolledBack {
		return b.Old
	}
	return b.New
}

// doomed is the generation that is removed at the end.
func (b *Rebuild) doomed() int {
	if b.RolledBack || b.SwappedAt.IsZero() {
		return b.New
	}
	return b.Old
}
