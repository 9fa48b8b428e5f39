package fold

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

// Projection is the part of a declaration that folding needs; *projection.Projection is one, *projection.Func (Go functions) another.
type Projection interface {
	// Entity names what the states are of, for example "order".
	Entity() string
	// Topic is the one topic whose events the entity follows.
	Topic() string
	Columns() []projection.Column
	// Digest changes when the declaration changes in any way that changes states.
	Digest() string
	// Fold applies one event. It is deterministic. An event type the projection does not name returns prev unchanged.
	// An error is poison: it concerns this event.
	Fold(prev projection.State, ev *consumers.Event) (projection.State, error)
	// CacheKeys are the cache keys of a state; nil without a cache section and for a state that does not exist.
	CacheKeys(key string, s projection.State) ([]string, error)
}

// CacheVersioner is a Projection whose states hold a version that the rows of the application hold as well, so that a cache can tell an old row, read from
// a replica, from a new one.
type CacheVersioner interface {
	// CacheVersion returns the version of a state's row, from 1; false if it is not known.
	CacheVersion(s projection.State) (version int64, ok bool)
}

// Overwriter is a Projection that knows which events leave nothing of the state before them; *projection.Projection is one. Where all of its event types do,
// versions of states are remembered and no states, and an event of a remembered key loads nothing.
type Overwriter interface {
	// EventTypes are the event types that change the state.
	EventTypes() []string
	// Overwrites says that what Fold makes of an event of the type, and CacheKeys before and after it, do not depend on the values of the state before.
	Overwrites(eventType string) bool
}

// overwriter returns a projection as one that always overwrites; nil if it is none.
func overwriter(p Projection) Overwriter {
	o, tells := p.(Overwriter)
	if !tells || slices.ContainsFunc(o.EventTypes(), func(t string) bool { return !o.Overwrites(t) }) {
		return nil
	}
	return o
}

// Sink is what a backend implements: load, store and position. All calls for one partition come from one lane, one at a time;
// lanes of different partitions call at the same time. Errors are classified as package consumers says.
//
// Promise 4: a sink's state is that of applying each event once, in key order. A backend upholds its part with two checks made
// atomically with the write: the epoch is still the claimer's, and the stored position equals Commit.From.
type Sink interface {
	// Claim makes the caller the owner of a partition: it raises the partition's epoch, durably, and returns where to go on.
	// Commits of earlier epochs fail with consumers.ErrFenced from then on.
	Claim(ctx context.Context, tp consumers.TopicPartition) (Claim, error)
	// Load returns the stored states of the given keys of an entity, deleted ones included; keys never stored are absent.
	Load(ctx context.Context, entity string, keys []string) (map[string]Stored, error)
	// Commit applies a batch whole or not at all, and moves the position. Where the backend has no transaction, the position
	// moves last and a repeated Commit of the same batch changes nothing (the version of each state guards it).
	Commit(ctx context.Context, c Commit) error
	// Positions returns the stored position of every partition that was ever committed.
	Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error)
	Close() error
}

// EventReader is a Sink that says whether it reads the fields of Commit.Events. If it does, all fields are decoded at once, and not only those that the
// projections read.
type EventReader interface {
	ReadsEvents() bool
}

// Claim is what the owner of a partition starts from.
type Claim struct {
	// Epoch grows with every claim of the partition, from 1.
	Epoch int64
	// Next is the offset to apply next; -1 if nothing was ever applied.
	Next int64
	// Quarantined are the keys of the partition whose events go to the dead-letter topic, with the offset of the first event that
	// is there and not applied. The mark under the empty key is none of those: it tells of which topic the position is (topic.go).
	Quarantined map[string]int64
}

// Stored is a state as a backend keeps it.
type Stored struct {
	projection.State
	// Version is the Seq of the last event applied. A deleted state keeps its version.
	Version int64
	// EventID and Time are those of that event.
	EventID string
	Time    time.Time
}

// Change is the new state of one key after a batch.
type Change struct {
	Key string
	Stored
	// Existed says that the state existed before the batch.
	Existed bool
	// CacheKeys are the cache keys of every state the key went through in the batch, the one before it included; sorted, unique.
	CacheKeys []string
	// CacheVersion is the least version of the application's row that may be cached from now on, see CacheVersioner; 0 if none is known.
	CacheVersion int64
}

// Commit is the effect of one batch.
type Commit struct {
	consumers.TopicPartition
	// Epoch is the one that Claim returned.
	Epoch int64
	// From is the position the batch starts at; the stored one must equal it (a partition never committed accepts any).
	From int64
	// Next is the position after the batch.
	Next int64
	// Events are the batch's events in offset order, without those that were dead-lettered. Only backends that keep
	// events (bronze) use them.
	Events []consumers.Event
	// Changes are the new states by entity, one per key, in order of key.
	Changes map[string][]Change
	// Quarantine are keys to quarantine from now on, with the offset that began it. A key that is quarantined already keeps its
	// offset, unless it is in Lifted as well.
	Quarantine map[string]int64
	// Replace has states stored that have the version that is stored already: they were folded anew, and what stands there is wrong. A stored state of a
	// greater version stays. A state that the store holds twice is there once afterwards. The position stays as it is (From equals Next).
	Replace bool
	// Lifted are keys whose quarantine ends with this commit, before Quarantine begins: a key in both gets the offset that it has
	// there. Lifting a key that is not quarantined changes nothing. A commit that lifts may leave the position as it is (From equals
	// Next); it is never repeated with the same epoch.
	Lifted []string
}
