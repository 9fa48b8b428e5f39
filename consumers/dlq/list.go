package dlq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Desk is where the dead letters of one sink are looked at.
type Desk struct {
	sink  string
	kafka []kgo.Opt
}

// New returns the desk of a sink. kafka says how Kafka is reached.
func New(sink string, kafka ...kgo.Opt) *Desk { return &Desk{sink: sink, kafka: kafka} }

// Entry is a dead letter and where it stands.
type Entry struct {
	consumers.Letter
	// Pending says that it was neither applied nor dropped.
	Pending bool
	// Asked says that a request about its key waits for an answer.
	Asked bool
}

// maxRemembered is the number of keys whose letters are told from their repetitions; with more, an event may be listed twice that a
// crash made the sink write twice.
const maxRemembered = 200_000

// List gives the letters that the filter chooses to f, in the order in which they were written, each event once. Memory depends on
// the number of keys, not on that of letters. An error of f ends it and is returned.
func (d *Desk) List(ctx context.Context, filter Filter, f func(Entry) error) error {
	g, err := d.ledger(ctx)
	if err != nil {
		return err
	}
	last := map[place]int64{}
	return consumers.ScanLetters(ctx, d.kafka, d.sink, func(l consumers.Letter) error {
		e := Entry{Letter: l, Pending: g.pending(&l)}
		if !e.Pending && !filter.Settled {
			return nil
		}
		p := placeOf(&l)
		if seen, ok := last[p]; ok && l.Offset <= seen {
			return nil
		}
		if len(last) >= maxRemembered {
			clear(last)
		}
		last[p] = l.Offset
		g.tell(&e.Letter)
		if !filter.match(&e.Letter) {
			return nil
		}
		_, e.Asked = g.asked[p]
		return f(e)
	})
}

// ledger reads the control topic.
func (d *Desk) ledger(ctx context.Context) (*ledger, error) {
	g := newLedger()
	err := consumers.ScanControl(ctx, d.kafka, d.sink, func(r *kgo.Record) error {
		g.take(r.Value)
		return nil
	})
	return g, err
}

// Key is a key with pending letters; or one letter without a key, which was put aside alone.
type Key struct {
	consumers.TopicPartition
	// Key is empty for a letter without a usable key.
	Key string
	// From is the offset of the first pending event, Type its type, Reason why it cannot be applied, At when it was put aside.
	From   int64
	Type   string
	Reason string
	At     time.Time
	// To is one more than the offset of the last pending event.
	To int64
	// Letters is the number of pending events.
	Letters int64
	// Asked says that a request waits for an answer.
	Asked bool
}

// ErrTooMany is what Keys returns when there are more keys than it holds: a million.
var ErrTooMany = errors.New("too many keys with dead letters")

const maxKeys = 1_000_000

// Keys returns the keys with a pending letter that the filter chooses, in order of topic, partition and first offset. What is told of a key is
// told of all its pending letters.
func (d *Desk) Keys(ctx context.Context, filter Filter) ([]Key, error) {
	g, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}
	filter.Settled = false
	keys, chosen := map[place]*Key{}, map[place]bool{}
	err = consumers.ScanLetters(ctx, d.kafka, d.sink, func(l consumers.Letter) error {
		if !g.pending(&l) {
			return nil
		}
		p := placeOf(&l)
		if keys[p] == nil && len(keys) >= maxKeys {
			return fmt.Errorf("%w: more than %d", ErrTooMany, maxKeys)
		}
		g.tell(&l)
		keys[p] = keys[p].add(&l)
		chosen[p] = chosen[p] || filter.match(&l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []Key
	for p, k := range keys {
		if chosen[p] {
			k.Key = p.key
			_, k.Asked = g.asked[p]
			all = append(all, *k)
		}
	}
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
	return all, nil
}

// add counts a letter.
func (k *Key) add(l *consumers.Letter) *Key {
	if k == nil {
		k = &Key{TopicPartition: l.TopicPartition, From: l.Offset + 1}
	}
	if l.Offset < k.From {
		k.From, k.Type, k.Reason, k.At = l.Offset, l.Type, l.Reason, l.At
	}
	if l.Offset >= k.To {
		k.To = l.Offset + 1
		k.Letters++
	}
	return k
}
