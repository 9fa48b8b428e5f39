package opensearch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Commit implements fold.Sink.
//
// Promise 4: there are no transactions here, so the order is what counts: the owner and the position are checked, the documents are
// written, the position is written last, if nobody has claimed the partition meanwhile. A crash in between leaves documents that the
// batch writes again when it is delivered again, with the same versions: they stay as they are.
func (s *Sink) Commit(ctx context.Context, c fold.Commit) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	bulks, err := s.plan(c)
	defer func() {
		for _, b := range bulks {
			b.giveBack()
		}
	}()
	if err != nil {
		return consumers.AsSystemic(fmt.Errorf("commit %s/%d: %w", c.Topic, c.Partition, err))
	}
	if err := s.commit(ctx, c, bulks); err != nil {
		return fmt.Errorf("commit %s/%d from %d to %d to opensearch: %w", c.Topic, c.Partition, c.From, c.Next, classify(err))
	}
	return nil
}

func (s *Sink) commit(ctx context.Context, c fold.Commit, bulks []*bulk) error {
	p, read, err := s.getPartition(ctx, c.TopicPartition)
	if err != nil {
		return err
	}
	if err := allowed(p, read.Found, c); err != nil {
		return err
	}
	// What was sent is applied, whether or not somebody waits for it: we do.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.CommitTimeout)
	defer cancel()
	if err := s.crashAt("before the documents"); err != nil {
		return err
	}
	if err := s.writeAll(writing, ctx.Done(), bulks); err != nil {
		return err
	}
	if c.Replace {
		if err := s.removeDoubles(writing, c.Changes); err != nil {
			return err
		}
	}
	if err := s.crashAt("after the documents"); err != nil {
		return err
	}
	if err := s.move(writing, c, p, read); err != nil {
		return err
	}
	return s.crashAt("after the position")
}

// allowed says whether the owner still is the owner and goes on where the partition stands.
func allowed(p partition, claimed bool, c fold.Commit) error {
	switch {
	case !claimed:
		return fmt.Errorf("nobody has claimed it: %w", consumers.ErrFenced)
	case p.Epoch != c.Epoch:
		return fmt.Errorf("epoch %d, stored %d: %w", c.Epoch, p.Epoch, consumers.ErrFenced)
	case p.Next >= 0 && p.Next != c.From:
		return fmt.Errorf("stored position is %d: %w", p.Next, consumers.ErrPosition)
	}
	return nil
}

// move writes the position, if the partition is as it was read.
func (s *Sink) move(ctx context.Context, c fold.Commit, p partition, read record) error {
	then := p.after(c)
	err := s.putRecord(ctx, partitionID(c.TopicPartition), read, then)
	if !has(err, http.StatusConflict) {
		return err
	}
	now, read, readErr := s.getPartition(ctx, c.TopicPartition)
	switch {
	case readErr != nil:
		return readErr
	case now.equal(then):
		return nil // our own write, sent twice by the connection
	}
	if refusal := allowed(now, read.Found, c); refusal != nil {
		return refusal
	}
	return err
}

// plan makes the bulk requests of a batch. Nothing is sent before all of it is known to be well-formed.
func (s *Sink) plan(c fold.Commit) ([]*bulk, error) {
	var bulks []*bulk
	for _, entity := range slices.Sorted(maps.Keys(c.Changes)) {
		l, ok := s.layouts[entity]
		if !ok {
			return bulks, fmt.Errorf("the search sink does not hold %s", entity)
		}
		changes := c.Changes[entity]
		most := s.share(len(changes))
		for len(changes) > 0 {
			b := s.newBulk(l)
			if c.Replace {
				b.versions = newerOrEqual
			}
			bulks = append(bulks, b)
			n, err := b.fill(changes[:min(most, len(changes))])
			if err != nil {
				return bulks, err
			}
			changes = changes[n:]
		}
	}
	return bulks, nil
}

// minShare is the number of documents below which another request costs more than it saves.
const minShare = 1000

// share is how many documents of a batch go in one request: all of them when the other lanes keep the cluster busy; where they leave
// room, a part, so that a single lane has several requests under way.
func (s *Sink) share(documents int) int {
	room := max(cap(s.bulks)-len(s.bulks), 1)
	parts := min(room, max(documents/minShare, 1))
	return (documents + parts - 1) / parts
}

// writeAll writes every document. Bulk requests of one batch have no key in common, so they are sent at the same time, as far as there
// is room.
func (s *Sink) writeAll(ctx context.Context, gone <-chan struct{}, bulks []*bulk) error {
	var writing errgroup.Group
	for i, b := range bulks {
		if i == 1 {
			if err := s.crashAt("after some documents"); err != nil {
				return errors.Join(err, writing.Wait())
			}
		}
		writing.Go(func() error { return b.write(ctx, gone) })
	}
	err := writing.Wait()
	if err == nil && len(bulks) < 2 {
		err = s.crashAt("after some documents")
	}
	return err
}
