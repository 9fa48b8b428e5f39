package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

// send writes records without a transaction, in one order.
func (r *rig) send(records ...*kgo.Record) {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// moved is a record of the other schema.
func (r *rig) moved() *kgo.Record {
	codec, err := avro.New(texts[idMoved])
	if err != nil {
		r.t.Fatal(err)
	}
	value, err := codec.AppendEncode(avro.AppendFrame(nil, idMoved), map[string]any{"place": "Ulm"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.total++
	return r.record("k", value, r.total)
}

// The next batch is decoded while the Processor has the one before it.
func TestOneBatchIsDecodedAhead(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	asked, gate := make(chan struct{}), make(chan struct{})
	cfg := r.config()
	cfg.BatchEvents = 2
	cfg.Registry = registryFunc(func(_ context.Context, id int) (string, error) {
		if id == idMoved {
			close(asked)
		}
		return texts[id], nil
	})
	s := &script{process: func(ctx context.Context, b consumers.Batch) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	r.send(r.added("k", 1), r.added("k", 1), r.added("k", 1), r.moved(), r.added("k", 1))
	c := start(t, cfg, s)
	<-asked // while the first batch is with the Processor
	close(gate)
	reach(t, s, 5)
	if got := s.taken(); !slices.Equal(got, upTo(0, 5)) {
		t.Errorf("taken %v", got)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// Promise 2: order. What was decoded ahead is dropped when the partition is claimed anew, and comes again in its place.
func TestPromise2WhatIsDecodedAheadIsDroppedByAReclaim(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	var batches, position atomic.Int64
	s := &script{}
	s.claim = func(context.Context, consumers.TopicPartition) (int64, error) { return position.Load(), nil }
	s.process = func(_ context.Context, b consumers.Batch) error {
		if b.From != position.Load() {
			return fmt.Errorf("the batch begins at %d, the store is at %d: %w", b.From, position.Load(), consumers.ErrPosition)
		}
		if n := batches.Add(1); n%5 == 3 { // done, but the answer got lost
			position.Store(b.Next)
			return fmt.Errorf("the answer got lost: %w", consumers.ErrPosition)
		} else if n%5 == 4 { // not done
			return fmt.Errorf("fenced for a moment: %w", consumers.ErrPosition)
		}
		position.Store(b.Next)
		return nil
	}
	seen := int64(0)
	inner := s.process
	s.process = func(ctx context.Context, b consumers.Batch) error {
		before := position.Load()
		err := inner(ctx, b)
		if after := position.Load(); after != before {
			for _, ev := range b.Events {
				if ev.Offset != seen {
					t.Errorf("offset %d was applied, want %d", ev.Offset, seen)
				}
				seen = ev.Offset + 1
			}
		}
		return err
	}
	var records []*kgo.Record
	for range 300 {
		records = append(records, r.added("k", 1))
	}
	r.send(records...)
	cfg := r.config()
	cfg.BatchEvents = 7
	c := start(t, cfg, s)
	eventually(t, "the end", func() error {
		if at := position.Load(); at < 300 {
			return fmt.Errorf("at %d", at)
		}
		return nil
	})
	if err := c.end(); err != nil {
		t.Error(err)
	}
	if seen != 300 {
		t.Errorf("applied up to %d", seen)
	}
}

// What was decoded before a record that cannot be decoded for now goes its way; what stands behind it waits.
func TestARegistryThatIsAwayHoldsUpWhatNeedsIt(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	var away atomic.Bool
	away.Store(true)
	cfg := r.config()
	cfg.Registry = registryFunc(func(_ context.Context, id int) (string, error) {
		if id == idMoved && away.Load() {
			return "", registry.ErrUnavailable
		}
		return texts[id], nil
	})
	s := &script{}
	r.send(r.added("k", 1), r.added("k", 1), r.moved(), r.added("k", 1))
	c := start(t, cfg, s)
	reach(t, s, 2)
	eventually(t, "the consumer to say what it waits for", func() error {
		st := c.Status()
		if len(st.Partitions) != 1 || st.Partitions[0].State != consumers.Waiting || st.Problem == "" {
			return fmt.Errorf("status is %+v", st)
		}
		return nil
	})
	if got := s.taken(); !slices.Equal(got, upTo(0, 2)) {
		t.Errorf("taken %v", got)
	}
	away.Store(false)
	reach(t, s, 4)
	if err := c.end(); err != nil {
		t.Error(err)
	}
	if got := s.taken(); !slices.Equal(got, upTo(0, 4)) {
		t.Errorf("taken %v", got)
	}
}

// A registry that refuses us stops the consumer, after what was decoded before is applied.
func TestARefusalStopsTheConsumerInItsPlace(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	cfg := r.config()
	cfg.Registry = registryFunc(func(_ context.Context, id int) (string, error) {
		if id == idMoved {
			return "", registry.ErrUnauthorized
		}
		return texts[id], nil
	})
	s := &script{}
	r.send(r.added("k", 1), r.added("k", 1), r.moved(), r.added("k", 1))
	c := start(t, cfg, s)
	if err := c.wait(); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("Run returned %v", err)
	}
	if got := s.taken(); !slices.Equal(got, upTo(0, 2)) {
		t.Errorf("taken %v", got)
	}
}

// reads is a Processor that reads one field.
type reads struct {
	script
	got chan consumers.Event
}

func (*reads) Reads(eventType string) ([]string, bool) { return []string{"amount"}, false }

// A FieldReader is given what it reads, and has the rest on demand.
func TestAFieldReaderHasAllFieldsOnDemand(t *testing.T) {
	r := fakeRig(t, 1)
	s := &reads{got: make(chan consumers.Event, 1)}
	s.process = func(_ context.Context, b consumers.Batch) error {
		s.got <- b.Events[0]
		return nil
	}
	const text = `{"type":"record","name":"Added","namespace":"test","fields":[{"name":"note","type":"string"},{"name":"amount","type":"long"}]}`
	cfg := r.config()
	cfg.Registry = registryFunc(func(context.Context, int) (string, error) { return text, nil })
	codec, err := avro.New(text)
	if err != nil {
		t.Fatal(err)
	}
	value, err := codec.AppendEncode(avro.AppendFrame(nil, 9), map[string]any{"note": "hello", "amount": 5})
	if err != nil {
		t.Fatal(err)
	}
	r.send(r.record("k", value, 1))
	start(t, cfg, s)
	ev := <-s.got
	if sel, values := ev.Values(); !slices.Equal(sel.Names(), []string{"amount"}) || len(values) != 1 || values[0] != int64(5) {
		t.Errorf("values of %v are %v", sel.Names(), values)
	}
	if f := ev.Fields(); len(f) != 2 || f["note"] != "hello" || f["amount"] != int64(5) {
		t.Errorf("fields are %v", f)
	}
}
