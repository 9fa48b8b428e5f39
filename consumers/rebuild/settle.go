package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/fold"
)

// errUnsettled says that something was decided about dead letters that a generation has put aside.
var errUnsettled = errors.New("dead letters were redriven or discarded meanwhile")

// unsettled says whether the generation beside has put events aside about which something was decided since: they were redriven or discarded where it serves.
func (j *Job) unsettled(ctx context.Context, w *work) (bool, error) {
	if err := w.decided.read(ctx); err != nil {
		return false, err
	}
	found := false
	err := w.eachSettled(ctx, func(tp consumers.TopicPartition, key string, offset int64) {
		mark, marked := w.feed.fold.Quarantined(tp, key)
		found = found || marked && mark == offset
	})
	return found, err
}

// eachSettled hands over the events that were put aside and do not wait any more.
func (w *work) eachSettled(ctx context.Context, f func(tp consumers.TopicPartition, key string, offset int64)) error {
	if !w.decided.settled() {
		return nil
	}
	return consumers.ScanLetters(ctx, w.decided.kafka, w.decided.sink, func(l consumers.Letter) error {
		if w.decided.fate(l.TopicPartition, l.Offset) != dlq.FatePending {
			f(l.TopicPartition, l.Key, l.Offset)
		}
		return nil
	})
}

// settle follows what was decided about events that the generation has put aside, before it is fed on: those that were redriven are applied, those that were discarded are left out, and
// the key goes on up to the first event that still waits.
//
// Promise 8: a rebuild repeats what was decided about bad events, whenever that was.
func (j *Job) settle(ctx context.Context, w *work, rec Record) error {
	candidates := map[consumers.TopicPartition]map[string]map[int64]bool{}
	err := w.eachSettled(ctx, func(tp consumers.TopicPartition, key string, offset int64) {
		if candidates[tp] == nil {
			candidates[tp] = map[string]map[int64]bool{}
		}
		if candidates[tp][key] == nil {
			candidates[tp][key] = map[int64]bool{}
		}
		candidates[tp][key][offset] = true
	})
	for tp, keys := range candidates {
		if err == nil {
			err = j.settlePartition(ctx, w, rec, tp, keys)
		}
	}
	return err
}

func (j *Job) settlePartition(ctx context.Context, w *work, rec Record, tp consumers.TopicPartition, keys map[string]map[int64]bool) (err error) {
	g := &gate{w.feed.fold, w.feed}
	next, err := g.Claim(ctx, tp)
	if err != nil {
		return err
	}
	defer g.Release(context.WithoutCancel(ctx), tp)
	s := &settling{j: j, w: w, tp: tp, next: next, first: next, keys: map[string]*settled{}}
	for key, offsets := range keys {
		if mark, marked := g.Quarantined(tp, key); marked && offsets[mark] {
			s.keys[key] = &settled{mark: mark, stands: -1}
			s.first = min(s.first, mark)
		}
	}
	if len(s.keys) == 0 {
		return nil
	}
	j.log.Info("what was decided about dead letters is followed", "generation", w.n, "topic", tp.Topic, "partition", tp.Partition, "keys", len(s.keys))
	return s.run(ctx, g, rec)
}

// settling is a partition of which keys go on.
type settling struct {
	j     *Job
	w     *work
	tp    consumers.TopicPartition
	first int64 // the least mark
	next  int64 // the position
	keys  map[string]*settled
	dec   *consumers.Decoder
	batch consumers.Redrive
	bytes int
}

// settled is a key that goes on from its mark, to the event at which it stands again: -1 if there is none.
type settled struct{ mark, stands int64 }

func (s *settling) run(ctx context.Context, g *gate, rec Record) (err error) {
	c := s.w.feed.cfg.Consumer
	if s.dec, err = consumers.NewDecoder(consumers.DecoderConfig{
		Registry: c.Registry, Catalogue: c.Catalogue, MaxValue: c.MaxValue, UnknownGrace: c.UnknownGrace, Reads: g.Reads}); err != nil {
		return err
	}
	starts, err := s.j.starts(ctx)
	if err != nil {
		return err
	}
	s.clear()
	take := func(r *kgo.Record) error { return s.take(ctx, r) }
	if start := starts[s.tp]; s.first >= start {
		err = consumers.ReadPartition(ctx, s.j.cfg.Kafka, s.tp, s.first, s.next, take)
	} else {
		err = s.history(ctx, rec, start, take)
	}
	if err != nil {
		return err
	}
	for key, k := range s.keys {
		s.batch.Rest[key] = k.stands
	}
	return s.flush(ctx)
}

// history reads what the log does not have any more from the generation that serves.
func (s *settling) history(ctx context.Context, rec Record, start int64, take func(*kgo.Record) error) (err error) {
	old, err := s.j.cfg.Host.Open(ctx, rec.Serving, rec.Generations[rec.Serving], false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	_, err = fold.History(ctx, s.j.cfg.Kafka, old.Sink(), s.tp, start, s.next, take)
	var forgotten *fold.Forgotten
	if errors.As(err, &forgotten) {
		err = consumers.AsSystemic(err)
	}
	return err
}

// take takes a record of a key that goes on.
func (s *settling) take(ctx context.Context, r *kgo.Record) error {
	key := string(r.Key)
	k := s.keys[key]
	if k == nil || r.Offset < k.mark || k.stands >= 0 {
		return nil
	}
	switch s.w.decided.fate(s.tp, r.Offset) {
	case dlq.FateDropped:
		return nil
	case dlq.FatePending:
		k.stands = r.Offset
		return nil
	case dlq.FateDroppedIfPoison:
		s.batch.DropPoison[key] = r.Offset + 1
	}
	ev, err := s.dec.Decode(ctx, r)
	if err != nil {
		return fmt.Errorf("decode %s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	s.batch.Events = append(s.batch.Events, ev)
	s.batch.Rest[key] = r.Offset + 1
	s.bytes += len(r.Key) + len(r.Value)
	if c := s.w.feed.cfg.Consumer.WithDefaults(); len(s.batch.Events) >= c.BatchEvents || s.bytes >= c.BatchBytes {
		return s.flush(ctx)
	}
	return nil
}

// flush applies what was taken. What cannot be applied, and could be where the sink serves, is nobody's decision.
func (s *settling) flush(ctx context.Context) error {
	done, err := s.w.feed.fold.Redrive(ctx, s.batch)
	if err != nil {
		return err
	}
	var letters []consumers.DeadLetter
	for key, at := range done.Stuck {
		for i := range s.batch.Events {
			if ev := &s.batch.Events[i]; ev.Key == key && ev.Offset == at.Offset {
				letters = append(letters, consumers.DeadLetter{Event: *ev, Class: consumers.LetterPoison, First: at.Offset, Reason: at.Reason})
			}
		}
	}
	s.clear()
	if len(letters) == 0 {
		return nil
	}
	return s.w.decided.check(ctx, letters)
}

func (s *settling) clear() {
	s.batch, s.bytes = consumers.Redrive{TopicPartition: s.tp, Rest: map[string]int64{}, DropPoison: map[string]int64{}}, 0
}
