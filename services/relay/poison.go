package relay

import (
	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// Poison says what becomes of an event that cannot be published, by the topic that it names.
type Poison string

const (
	// ParkKey parks it, and the later events of its key behind it, in order.
	ParkKey Poison = "park-key"
	// ParkEvent parks it by itself. Later events of its key go on, so consumers see them first: the order of the key is then that
	// of its release.
	ParkEvent Poison = "park-event"
	// StopAtPoison ends the relay, with nothing published behind it, until somebody has decided.
	StopAtPoison Poison = "stop"
)

var poisons = []Poison{ParkKey, ParkEvent, StopAtPoison}

// policy is what a topic says of events at fault. An event that only waits, for another of its key or for the registry, is none:
// its key waits with it.
func (f *framer) policy(topic string, wrong *fault) Poison {
	if wrong.reason == ReasonBehind || wrong.reason == ReasonRegistry {
		return ParkKey
	}
	if t, listed := f.cfg.Topics[topic]; listed {
		return t.OnPoison
	}
	return f.cfg.TopicDefaults.OnPoison
}

// poison does with an event at fault what its topic's policy says.
func (f *framer) poison(b *batch, e *store.Event, wrong *fault) error {
	policy := f.policy(e.Topic, wrong)
	if policy == StopAtPoison {
		return stopAt(e, wrong)
	}
	return f.park(b, e, wrong, policy == ParkEvent)
}

// stopAt is the error about an event that ends the relay.
func stopAt(e *store.Event, wrong *fault) error {
	field := ""
	if wrong.field != "" {
		field = ", field " + shorten(wrong.field)
	}
	return stopf("mend what is wrong with it, or have it parked (on_poison: park-key), and start the relay again",
		"%w: event %s, row %d, topic %.260q, key %.100q, type %.260q: %s%s: %s", ErrPoison, uuid.UUID(e.EventID), e.ID, e.Topic, e.Key, e.Type,
		wrong.reason, field, shorten(wrong.detail))
}
