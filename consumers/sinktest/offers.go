package sinktest

import (
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Offers says which optional parts of the contract a sink keeps. A backend must offer what its sink implements.
type Offers struct {
	// Snapshots: the sink is a fold.Snapshotter.
	Snapshots bool
	// Records: it is a fold.EventKeeper.
	Records bool
	// Generations: it is a fold.Generational, and the backend is a Generations.
	Generations bool
	// Replace: it knows fold.Commit.Replace.
	Replace bool
}

// Generations is a Backend of which several generations stand beside each other. Backend.Open opens the first of them, which serves at the
// beginning.
type Generations interface {
	// OpenGeneration opens a generation as Open opens the first one, for which it is the same. Sinks of other generations go on.
	OpenGeneration(t testing.TB, generation int) fold.Sink
	// ReadServing returns what readers find of an entity under the names that are known outside. ok is false if readers ask the process, and not the store, so
	// that nothing can be seen of serving.
	ReadServing(t testing.TB, entity string) (states map[string]fold.Stored, ok bool)
	// Traces names what is in the store of a generation: tables, files, indices; nothing after Remove. It opens nothing.
	Traces(t testing.TB, generation int) []string
	// TellsBehind says that Serve returns ErrBehind for a generation that is behind the one that serves.
	TellsBehind() bool
	// ServePoints and RemovePoints name the points inside Serve and Remove at which a process may die; CrashServing makes the next Serve or Remove of the
	// generation's sink stop there and return an error. The suite opens the generation again before it does anything else with it.
	ServePoints() []string
	RemovePoints() []string
	CrashServing(t testing.TB, generation int, point string)
}

// StatePlanter is a Backend whose store can be made to hold a state twice.
type StatePlanter interface {
	// DoubleState has the stored state of a key there once more.
	DoubleState(t testing.TB, entity, key string)
}

// EventPlanter is a Backend whose store can be made to keep an event twice.
type EventPlanter interface {
	// DoubleEvent keeps the event at an offset once more.
	DoubleEvent(t testing.TB, tp consumers.TopicPartition, offset int64)
}

func offerChecks() []check {
	all := []check{one("the sink is what its backend offers", checkOffers)}
	for _, part := range [][]check{snapshotChecks(), recordChecks(), replaceChecks(), generationChecks()} {
		all = append(all, part...)
	}
	return all
}

// offered is a check of a store whose backend offers something.
func offered(name string, which func(Offers) bool, run func(t testing.TB, b Backend)) check {
	return check{name, func(t testing.TB, newBackend func(t testing.TB) Backend) {
		if b := newBackend(t); which(b.Offers()) {
			run(t, b)
		}
	}}
}

func checkOffers(t testing.TB, b Backend) {
	s, offers := open(t, b), b.Offers()
	_, snapshots := s.(fold.Snapshotter)
	_, records := s.(fold.EventKeeper)
	_, generations := s.(fold.Generational)
	if is := (Offers{snapshots, records, generations, offers.Replace}); is != offers {
		t.Errorf("the sink is %+v, the backend offers %+v", is, offers)
	}
	if _, ok := b.(Generations); ok != offers.Generations {
		t.Errorf("the backend offers generations: %t; it can open them: %t", offers.Generations, ok)
	}
}
