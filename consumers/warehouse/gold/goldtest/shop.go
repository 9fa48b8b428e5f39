package goldtest

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// declared is a projection of which only the declaration is used.
type declared struct {
	entity, topic, digest string
	columns               []projection.Column
}

func (d declared) Entity() string               { return d.entity }
func (d declared) Topic() string                { return d.topic }
func (d declared) Digest() string               { return d.digest }
func (d declared) Columns() []projection.Column { return d.columns }
func (d declared) Fold(s projection.State, _ *consumers.Event) (projection.State, error) {
	return s, nil
}
func (d declared) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

func projections() []fold.Projection {
	text := projection.Type{Kind: projection.Text}
	return []fold.Projection{
		declared{"order", "shop.orders", "0123456789abcdef", []projection.Column{
			{Name: "customer_id", Type: text}, {Name: "status", Type: text},
			{Name: "total", Type: projection.Type{Kind: projection.Decimal, Precision: 20, Scale: 4}},
			{Name: "placed", Type: projection.Type{Kind: projection.Timestamp}},
		}},
		declared{"customer", "shop.customers", "fedcba9876543210", []projection.Column{{Name: "name", Type: text}, {Name: "city", Type: text}}},
	}
}

// shop commits to a warehouse what its sink would.
type shop struct {
	gold.Engine
	w      Warehouse
	epochs map[consumers.TopicPartition]int64
	next   map[consumers.TopicPartition]int64
	seq    int64
}

const partitions = 2

func newShop(t testing.TB, w Warehouse, e gold.Engine) *shop {
	t.Helper()
	s := &shop{Engine: e, w: w, epochs: map[consumers.TopicPartition]int64{}, next: map[consumers.TopicPartition]int64{}}
	for _, topic := range []string{"shop.orders", "shop.customers"} {
		for p := range int32(partitions) {
			tp := consumers.TopicPartition{Topic: topic, Partition: p}
			c, err := w.Claim(context.Background(), tp)
			if err != nil {
				t.Fatal(err)
			}
			s.epochs[tp], s.next[tp] = c.Epoch, max(c.Next, 0)
			s.seq += s.next[tp] // each event had one
		}
	}
	return s
}

// place is the partition of a key.
func place(topic, key string) consumers.TopicPartition {
	var h int32
	for _, c := range key {
		h = h*31%1009 + c
	}
	return consumers.TopicPartition{Topic: topic, Partition: h % partitions}
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// apply commits one event, whose state is exists and values.
func (s *shop) apply(t testing.TB, entity, key string, exists bool, values ...any) {
	t.Helper()
	tp := place("shop."+entity+"s", key)
	s.seq++
	at := noon.Add(time.Duration(s.seq) * time.Minute)
	c := fold.Commit{
		TopicPartition: tp, Epoch: s.epochs[tp], From: s.next[tp], Next: s.next[tp] + 1,
		Events:  []consumers.Event{consumers.Event{TopicPartition: tp, Offset: s.next[tp], Key: key, Type: "shop.Event", ID: fmt.Sprint("e", s.seq), Seq: s.seq, Time: at}.WithFields(map[string]any{})},
		Changes: map[string][]fold.Change{entity: {{Key: key, Stored: fold.Stored{State: projection.State{Exists: exists, Values: values}, Version: s.seq, EventID: fmt.Sprint("e", s.seq), Time: at}}}},
	}
	if err := s.w.Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	s.next[tp]++
}

// quarantine marks the key of an order in place of an event of it, and redrive applies that one: the position stays where it is.
func (s *shop) quarantine(t testing.TB, key string) {
	t.Helper()
	tp := place("shop.orders", key)
	c := fold.Commit{TopicPartition: tp, Epoch: s.epochs[tp], From: s.next[tp], Next: s.next[tp] + 1, Quarantine: map[string]int64{key: s.next[tp]}}
	if err := s.w.Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	s.next[tp]++
	s.seq++ // that of the event
}

func (s *shop) redrive(t testing.TB, key string, version int64, values ...any) {
	t.Helper()
	tp := place("shop.orders", key)
	c := fold.Commit{TopicPartition: tp, Epoch: s.epochs[tp], From: s.next[tp], Next: s.next[tp], Lifted: []string{key},
		Changes: map[string][]fold.Change{"order": {{Key: key, Stored: fold.Stored{State: projection.State{Exists: true, Values: values}, Version: version, Time: noon}}}}}
	if err := s.w.Commit(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) order(t testing.TB, key, customer, status, total string, placed time.Time) {
	t.Helper()
	s.apply(t, "order", key, true, orderRow(customer, status, total, placed)...)
}

// orderRow is the state of an order; no customer is a null.
func orderRow(customer, status, total string, placed time.Time) []any {
	amount, ok := new(big.Rat).SetString(total)
	if !ok {
		panic("no number: " + total)
	}
	var who any
	if customer != "" {
		who = customer
	}
	return []any{who, status, amount, placed}
}

func (s *shop) customer(t testing.TB, key, name, city string) {
	t.Helper()
	s.apply(t, "customer", key, true, name, city)
}

// step does something at random: an order is placed, moved to another customer, paid or deleted, a customer renamed or deleted.
func (s *shop) step(t testing.TB, rnd *rand.Rand) {
	t.Helper()
	key, customer := fmt.Sprintf("o%02d", rnd.IntN(30)), fmt.Sprintf("c%d", rnd.IntN(8))
	switch n := rnd.IntN(20); {
	case n < 3:
		s.apply(t, "customer", customer, true, fmt.Sprint("name ", rnd.IntN(5)), fmt.Sprint("city ", rnd.IntN(3)))
	case n == 3:
		s.apply(t, "customer", customer, false, nil, nil)
	case n < 7:
		s.apply(t, "order", key, false, nil, nil, nil, nil)
	case n == 7:
		s.order(t, key, "", "placed", "1.5", noon)
	default:
		total := fmt.Sprintf("%d.%04d", rnd.IntN(1000), rnd.IntN(10000))
		s.order(t, key, customer, []string{"placed", "paid", "shipped"}[rnd.IntN(3)], total, noon.AddDate(0, 0, rnd.IntN(4)))
	}
}
