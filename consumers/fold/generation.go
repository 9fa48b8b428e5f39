package fold

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Snapshotter is a Sink that shows its states as of one moment, while commits go on.
type Snapshotter interface {
	Sink
	// Snapshot opens one; the caller closes it. It holds no commit up.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot is what a sink holds at one moment. It belongs to one goroutine.
type Snapshot interface {
	// Positions are those of the moment: every event below is in the states, and, where Exact says so, none above.
	Positions() map[consumers.TopicPartition]int64
	// Exact is false of a store that cannot read states and positions together: its states may be newer than Positions, and never older.
	Exact() bool
	// States hands over every stored state of an entity, deleted ones included, in no order, until yield returns an error. A state that the
	// store holds twice comes twice. What is handed over is yield's to keep.
	States(ctx context.Context, entity string, yield func(key string, s Stored) error) error
	Close() error
}

// Shower is a Snapshotter whose readers see something that is made of the states, and stands beside them: documents. Its snapshots hand over states as readers see them, so that
// a difference that somebody has made there is found.
type Shower interface {
	Snapshotter
	// Shown is Load, with states as readers see them.
	Shown(ctx context.Context, entity string, keys []string) (map[string]Stored, error)
}

// Shown loads states as the readers of a sink see them, which is Load for most.
func Shown(ctx context.Context, s Sink, entity string, keys []string) (map[string]Stored, error) {
	if shower, ok := s.(Shower); ok {
		return shower.Shown(ctx, entity, keys)
	}
	return s.Load(ctx, entity, keys)
}

// EventKeeper is a Sink that keeps every event (bronze) and gives them back as records of their topics.
type EventKeeper interface {
	Sink
	// Records hands over the kept events of a partition with offsets from from to below until, in order of offset, as the records that they were: key,
	// value in the registry's framing, headers, timestamp, offset. An offset that is kept twice comes twice. It returns ErrNoPayload if events are kept
	// without their bytes.
	Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error
	// Kept counts what is kept of each partition, and where it begins and ends.
	Kept(ctx context.Context) (map[consumers.TopicPartition]Kept, error)
}

// Kept is what a sink keeps of a partition's events.
type Kept struct {
	// First and Last are the least and the greatest offset.
	First, Last int64
	// Events counts rows, Offsets different offsets: more rows than offsets are doubles.
	Events, Offsets int64
	// Bytes is the size of all values, where it is known without reading them; 0 otherwise.
	Bytes int64
	// Oldest is the least time of an event.
	Oldest time.Time
}

// ErrNoPayload says that events are kept without their bytes and cannot be had again.
var ErrNoPayload = errors.New("the events were kept without their bytes")

// Generational is a Sink of which several generations stand beside each other, each with states, events and positions of its own. Which one is opened says
// the backend's configuration, from 1.
//
// Promise 8: the old generation serves until the new one takes over, in one step for every reader.
type Generational interface {
	Sink
	// Serve makes this generation the one that readers find under the names that are known outside (views, aliases, a pointer), all entities in one step.
	// Repeated it changes nothing. Where the store can tell in the same step that this generation is behind the one that serves in some partition, it
	// changes nothing and returns ErrBehind. A backend whose readers ask the process, and not the store, has nothing to do.
	Serve(ctx context.Context) error
	// Remove removes all of this generation from the store; repeated it changes nothing. It refuses the one that serves (ErrServing). The sink is of no use afterwards
	// and is closed as usual.
	Remove(ctx context.Context) error
}

// Awaiter is a Generational whose Serve has to wait for readers that began before, as a transaction that is REPEATABLE READ keeps what it saw.
type Awaiter interface {
	Generational
	// AwaitReaders waits until everybody has ended who reads when it is called, however long that takes, or until ctx ends. Who is to let a generation serve asks it before the one that
	// serves is fenced, and nothing feeds that any more: then Serve has those left that began since. tell is called with whom it waits for, whenever that changes.
	AwaitReaders(ctx context.Context, tell func(whom string)) error
}

var (
	// ErrBehind says that a generation cannot serve yet: readers would step back in time.
	ErrBehind = errors.New("the generation is behind the one that serves")
	// ErrServing says that a generation cannot be removed, for readers use it.
	ErrServing = errors.New("the generation serves")
)
