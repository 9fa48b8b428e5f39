package sinktest

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// The topics and entities that the suite stores. Ledger and Tally follow the same topic.
const (
	TopicLedger  = "sinktest.ledger"
	TopicWide    = "sinktest.wide"
	EntityLedger = "ledger"
	EntityTally  = "tally"
	EntityWide   = "wide"
)

// Projections returns the declarations that a backend under test is opened with. They are the same at every call.
func Projections() []fold.Projection {
	return []fold.Projection{
		declared{entity: EntityLedger, topic: TopicLedger, columns: ledgerColumns, fold: foldLedger, cacheKeys: ledgerCacheKeys},
		declared{entity: EntityTally, topic: TopicLedger, columns: tallyColumns, fold: foldTally},
		declared{entity: EntityWide, topic: TopicWide, columns: wideColumns, fold: foldWide},
	}
}

// declared is a projection in Go.
type declared struct {
	entity, topic string
	columns       []projection.Column
	fold          func(projection.State, *consumers.Event) (projection.State, error)
	cacheKeys     func(string, projection.State) ([]string, error)
}

func (d declared) Entity() string               { return d.entity }
func (d declared) Topic() string                { return d.topic }
func (d declared) Columns() []projection.Column { return d.columns }
func (d declared) Digest() string               { return "sinktest-1-" + d.entity }

func (d declared) Fold(prev projection.State, ev *consumers.Event) (projection.State, error) {
	return d.fold(prev, ev)
}

func (d declared) CacheKeys(key string, s projection.State) ([]string, error) {
	if d.cacheKeys == nil || !s.Exists {
		return nil, nil
	}
	return d.cacheKeys(key, s)
}

// The ledger remembers the version of every event that it applied, so that one applied twice, or left out, shows.
var ledgerColumns = []projection.Column{
	{Name: "owner", Type: projection.Type{Kind: projection.Text}},
	{Name: "balance", Type: projection.Type{Kind: projection.Decimal, Precision: 20, Scale: 2}},
	{Name: "applied", Type: projection.Type{Kind: projection.List, Elem: &projection.Type{Kind: projection.Int}}},
}

var tallyColumns = []projection.Column{
	{Name: "events", Type: projection.Type{Kind: projection.Int}},
	{Name: "last_at", Type: projection.Type{Kind: projection.Timestamp}},
}

// Types of the events of TopicLedger.
const (
	typeOpened  = "sinktest.Opened"  // owner
	typeAdded   = "sinktest.Added"   // amount
	typeMoved   = "sinktest.Moved"   // owner
	typeClosed  = "sinktest.Closed"  //
	typeRefused = "sinktest.Refused" // no projection can fold it
	typeIgnored = "sinktest.Ignored" // no projection names it
)

var errRefused = errors.New("this event cannot be folded")

func foldLedger(prev projection.State, ev *consumers.Event) (projection.State, error) {
	if ev.Type == typeRefused {
		return projection.State{}, errRefused
	}
	if ev.Type == typeClosed {
		return projection.State{}, nil
	}
	next := projection.State{Exists: true, Values: []any{"", new(big.Rat), []any{}}}
	if prev.Exists {
		next.Values = slices.Clone(prev.Values)
	}
	switch ev.Type {
	case typeOpened, typeMoved:
		next.Values[0] = ev.Fields()["owner"]
	case typeAdded:
		amount, ok := ev.Fields()["amount"].(*big.Rat)
		if !ok {
			return projection.State{}, fmt.Errorf("amount is a %T", ev.Fields()["amount"])
		}
		next.Values[1] = new(big.Rat).Add(next.Values[1].(*big.Rat), amount)
	default:
		return prev, nil
	}
	next.Values[2] = append(slices.Clone(next.Values[2].([]any)), ev.Seq)
	return next, nil
}

func ledgerCacheKeys(key string, s projection.State) ([]string, error) {
	return []string{"ledger:" + key, fmt.Sprint("owner:", s.Values[0])}, nil
}

func foldTally(prev projection.State, ev *consumers.Event) (projection.State, error) {
	if ev.Type == typeIgnored || ev.Type == typeRefused {
		return prev, nil
	}
	n := int64(0)
	if prev.Exists {
		n = prev.Values[0].(int64)
	}
	return projection.State{Exists: true, Values: []any{n + 1, ev.Time}}, nil
}

// foldWide takes the whole row from the event.
func foldWide(_ projection.State, ev *consumers.Event) (projection.State, error) {
	values := make([]any, len(wideColumns))
	for i, c := range wideColumns {
		values[i] = ev.Fields()[c.Name]
	}
	return projection.State{Exists: true, Values: values}, nil
}

// epoch is the time of the first event of every history.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// at returns a time that grows with a version, exact to the microsecond.
func at(seq int64) time.Time { return epoch.Add(time.Duration(seq) * 1234567 * time.Microsecond) }

// event makes an event of the ledger; its version is offset+1.
func event(tp consumers.TopicPartition, offset int64, key, typ string, fields map[string]any) consumers.Event {
	return consumers.Event{
		TopicPartition: tp, Offset: offset, Key: key, Type: typ, Seq: offset + 1,
		ID:   fmt.Sprintf("%s/%d/%d", tp.Topic, tp.Partition, offset),
		Time: at(offset + 1), SchemaID: 7,
		Payload: fmt.Appendf(nil, "payload\x00%d", offset), Value: fmt.Appendf(nil, "\x00\x00\x00\x00\x07payload\x00%d", offset),
	}.WithFields(fields).WithHeaders(map[string]string{"ce_type": typ, "tenant": "größe"})
}

// ledger makes a state of the ledger as an event at the given offset left it.
func ledger(owner string, cents int64, offset int64, applied ...any) fold.Stored {
	if applied == nil {
		applied = []any{offset + 1}
	}
	return fold.Stored{
		State:   projection.State{Exists: true, Values: []any{owner, big.NewRat(cents, 100), applied}},
		Version: offset + 1, EventID: fmt.Sprintf("e%d", offset), Time: at(offset + 1),
	}
}

// deleted makes the trace of a state deleted by the event at the given offset.
func deleted(offset int64) fold.Stored {
	return fold.Stored{Version: offset + 1, EventID: fmt.Sprintf("e%d", offset), Time: at(offset + 1)}
}
