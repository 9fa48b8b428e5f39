package bleve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/blevesearch/bleve/v2"
	index "github.com/blevesearch/bleve_index_api"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
)

// Claim implements fold.Sink.
func (s *Sink) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	ix, done, err := s.use(ctx)
	if err != nil {
		return fold.Claim{}, err
	}
	defer done()
	batch := ix.NewBatch()
	s.mu.Lock() // over the batch: the list of partitions is one value
	defer s.mu.Unlock()
	p, known := s.partitions[tp]
	if !known {
		p = &partition{record: record{Next: -1}}
		if err := listPartitions(batch, s.partitions, tp); err != nil {
			return fold.Claim{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	raised := p.record
	raised.Epoch++
	if err := s.write(ix, batch, tp, p, raised); err != nil {
		return fold.Claim{}, fmt.Errorf("claim %s/%d in search index: %w", tp.Topic, tp.Partition, err)
	}
	s.partitions[tp] = p
	return fold.Claim{Epoch: raised.Epoch, Next: raised.Next, Quarantined: maps.Clone(raised.Quarantined)}, nil
}

func listPartitions(batch *bleve.Batch, known map[consumers.TopicPartition]*partition, added consumers.TopicPartition) error {
	list := append(slices.Collect(maps.Keys(known)), added)
	slices.SortFunc(list, func(a, b consumers.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	value, err := json.Marshal(list)
	if err != nil {
		return err
	}
	batch.SetInternal(partitionsKey, value)
	return nil
}

// Load implements fold.Sink.
func (s *Sink) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	l, ok := s.layouts[entity]
	if !ok {
		return nil, consumers.AsSystemic(fmt.Errorf("load states of %s: the search index does not hold this entity", entity))
	}
	ix, done, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	out := make(map[string]fold.Stored, len(keys))
	err = withReader(ix, func(r index.IndexReader) error {
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			state, found, err := l.load(r, key)
			if err != nil {
				return fmt.Errorf("load %s %q from search index: %w", entity, key, err)
			}
			if found {
				out[key] = state
			}
		}
		return nil
	})
	return out, err
}

// withReader runs f on one consistent view of the index.
func withReader(ix bleve.Index, f func(index.IndexReader) error) (err error) {
	inner, err := ix.Advanced()
	if err != nil {
		return err
	}
	r, err := inner.Reader()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return f(r)
}

func (l *layout) load(r index.IndexReader, key string) (state fold.Stored, found bool, err error) {
	doc, err := r.Document(l.id(key))
	if err != nil || doc == nil {
		return state, false, err
	}
	var value []byte
	doc.VisitFields(func(f index.Field) {
		if f.Name() == stateField {
			value = f.Value()
		}
	})
	state, err = stored.Decode(l.Columns, value)
	return state, err == nil, err
}

// Commit implements fold.Sink.
//
// Promise 4: epoch and position are checked under the partition's lock, and change in the batch of their documents.
func (s *Sink) Commit(ctx context.Context, c fold.Commit) error {
	ix, done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, err := s.owned(c)
	if err != nil {
		return err
	}
	defer p.mu.Unlock()
	if c.Replace {
		if c.Changes, err = s.withoutOlder(ix, c.Changes); err != nil {
			return err
		}
	}
	batch := ix.NewBatch()
	for entity, changes := range c.Changes {
		if err := s.addChanges(batch, entity, changes); err != nil {
			return consumers.AsSystemic(err)
		}
	}
	if err := s.crashAt("before the batch"); err != nil {
		return err
	}
	if err := s.write(ix, batch, c.TopicPartition, p, p.record.with(c)); err != nil {
		return fmt.Errorf("commit %s/%d from %d to %d to search index: %w", c.Topic, c.Partition, c.From, c.Next, err)
	}
	return s.crashAt("after the batch")
}

// withoutOlder returns the changes but for those of which a greater version is stored. The lock of the partition is held: nobody else writes these keys.
func (s *Sink) withoutOlder(ix bleve.Index, all map[string][]fold.Change) (map[string][]fold.Change, error) {
	out := make(map[string][]fold.Change, len(all))
	err := withReader(ix, func(r index.IndexReader) error {
		for entity, changes := range all {
			l, ok := s.layouts[entity]
			if !ok {
				return consumers.AsSystemic(fmt.Errorf("the search index does not hold %s", entity))
			}
			for _, c := range changes {
				have, found, err := l.load(r, c.Key)
				if err != nil {
					return fmt.Errorf("load %s %q from search index: %w", entity, c.Key, err)
				}
				if !found || have.Version <= c.Version {
					out[entity] = append(out[entity], c)
				}
			}
		}
		return nil
	})
	return out, err
}

func (s *Sink) crashAt(point string) error {
	if s.crash == nil {
		return nil
	}
	return s.crash(point)
}

// owned returns the partition, locked, if the commit's owner still is the owner and goes on where the partition stands.
func (s *Sink) owned(c fold.Commit) (*partition, error) {
	s.mu.Lock()
	p := s.partitions[c.TopicPartition]
	s.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("commit to %s/%d, which nobody has claimed: %w", c.Topic, c.Partition, consumers.ErrFenced)
	}
	p.mu.Lock()
	var err error
	switch at := p.record; {
	case at.Epoch != c.Epoch:
		err = fmt.Errorf("commit to %s/%d in epoch %d, now %d: %w", c.Topic, c.Partition, c.Epoch, at.Epoch, consumers.ErrFenced)
	case at.Next >= 0 && at.Next != c.From:
		err = fmt.Errorf("commit to %s/%d from %d, stored %d: %w", c.Topic, c.Partition, c.From, at.Next, consumers.ErrPosition)
	}
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	return p, nil
}

func (s *Sink) addChanges(batch *bleve.Batch, entity string, changes []fold.Change) error {
	l, ok := s.layouts[entity]
	if !ok {
		return fmt.Errorf("the search index does not hold %s", entity)
	}
	for _, c := range changes {
		doc, err := l.document(c)
		if err != nil {
			return err
		}
		if err := batch.IndexAdvanced(doc); err != nil {
			return fmt.Errorf("%s %q: %w", entity, c.Key, err)
		}
	}
	return nil
}

// write makes batch and record durable together. p.mu is held.
func (s *Sink) write(ix bleve.Index, batch *bleve.Batch, tp consumers.TopicPartition, p *partition, next record) error {
	if err := next.put(batch, tp); err != nil {
		return err
	}
	if err := ix.Batch(batch); err != nil {
		// The index in memory may or may not have taken the batch, see "Non-obvious": go on from what it says.
		if now, readErr := readRecord(ix, tp); readErr == nil {
			p.record = now
		}
		return classify(err)
	}
	p.record = next
	return classify(syncDir(s.storeDir))
}

// classify tells what no retry mends from what passes.
func classify(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if errors.Is(err, full) {
			return consumers.AsSystemic(err)
		}
	}
	return err
}

// Positions implements fold.Sink.
func (s *Sink) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	_, done, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	s.mu.Lock()
	known := maps.Clone(s.partitions)
	s.mu.Unlock()
	out := make(map[consumers.TopicPartition]int64, len(known))
	for tp, p := range known {
		p.mu.Lock()
		if p.record.Next >= 0 {
			out[tp] = p.record.Next
		}
		p.mu.Unlock()
	}
	return out, nil
}
