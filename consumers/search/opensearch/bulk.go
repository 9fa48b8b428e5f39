package opensearch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// bulk is one bulk request: documents of one entity, and the request's body.
type bulk struct {
	sink   *Sink
	layout *layout
	// versions says which versions of what is stored a write gives way to: newer, or newerOrEqual.
	versions string
	items    []item
	outdone  []item // those that gave way to what is stored
	body     *[]byte
	free     func()
}

// item is a document to write.
type item struct {
	change *fold.Change
	// why is the reason for which the server does not index the document; it is written bare then. Empty at first.
	why string
	// at is the place of the document as it was read, which the write is bound to in the place of a version; nil but for what was outdone by a number alone.
	at *place
}

// Pauses before documents that the cluster had no room for are sent again.
const (
	repeatMin = 50 * time.Millisecond
	repeatMax = 2 * time.Second
)

// Refusals of more than this share of a request's documents, from this number of documents on, are not their fault.
const (
	refusedShare = 0.25
	refusedFrom  = 100
)

func (s *Sink) newBulk(l *layout) *bulk {
	b := &bulk{sink: s, layout: l, versions: newer}
	b.body, b.free = s.buffer()
	return b
}

func (b *bulk) giveBack() { b.free() }

// fill puts as many changes in as there is room for and returns their number, one at least.
func (b *bulk) fill(changes []fold.Change) (int, error) {
	for i := range changes {
		before := len(*b.body)
		var err error
		if *b.body, err = b.layout.appendItem(*b.body, &changes[i], guard{b.versions, nil}); err != nil {
			return i, err
		}
		if i > 0 && len(*b.body) > b.sink.cfg.BulkBytes {
			*b.body = (*b.body)[:before]
			return i, nil
		}
		b.items = append(b.items, item{change: &changes[i]})
	}
	return len(changes), nil
}

// encode makes the body anew from what is left to write.
func (b *bulk) encode() error {
	*b.body = (*b.body)[:0]
	for _, it := range b.items {
		var err error
		if it.why != "" {
			*b.body, err = b.layout.appendBare(*b.body, it.change, guard{b.versions, it.at}, it.why)
		} else {
			*b.body, err = b.layout.appendItem(*b.body, it.change, guard{b.versions, it.at})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write sends the request, and again what the cluster had no room for, until every document is written. It gives up between two
// attempts when gone is closed.
func (b *bulk) write(ctx context.Context, gone <-chan struct{}) error {
	for pause := repeatMin; ; pause = min(2*pause, repeatMax) {
		v, err := b.send(ctx)
		switch {
		case has(err, http.StatusRequestEntityTooLarge):
			return b.split(ctx, gone)
		case err != nil && !busy(err):
			return err
		case err != nil:
			b.sink.metrics.repeats.Add(float64(len(b.items)))
		case err == nil:
			if b.items, err = b.left(v); err != nil {
				return err
			}
			if len(b.items) == 0 {
				return b.overrule(ctx, gone)
			}
			if err := b.encode(); err != nil {
				return consumers.AsSystemic(err)
			}
			if v.busy == 0 {
				continue // only what the server did not index: bare now
			}
			err = v.lastBusy
		}
		if waitErr := wait(ctx, gone, pause); waitErr != nil {
			return fmt.Errorf("%d of the documents of %s are not written yet: %w", len(b.items), b.layout.Name, err)
		}
	}
}

var errGone = errors.New("nobody waits any more")

func wait(ctx context.Context, gone <-chan struct{}, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-gone:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// busy says whether an answer asks to come again later.
func busy(err error) bool {
	return has(err, http.StatusTooManyRequests) || has(err, http.StatusServiceUnavailable) || has(err, http.StatusBadGateway) || has(err, http.StatusGatewayTimeout)
}

// send sends the body as it is and returns what became of each item.
func (b *bulk) send(ctx context.Context) (*verdicts, error) {
	select {
	case b.sink.bulks <- struct{}{}:
		defer func() { <-b.sink.bulks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	reply, giveBack := b.sink.buffer()
	defer giveBack()
	limit := int64(maxAnswer + len(b.items)*4096)
	began := time.Now()
	raw, err := b.sink.client.send(ctx, http.MethodPost, path(b.layout.target)+bulkPath, "application/x-ndjson", *b.body, limit, *reply)
	b.sink.metrics.bulkTime.Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, err
	}
	*reply = raw
	return readVerdicts(raw, len(b.items))
}

// bulkPath asks for no more of the answer than is read.
const bulkPath = "/_bulk?require_alias=true&filter_path=items.*.status,items.*.error.type,items.*.error.reason"

// split sends a request that is too large for somebody on the way as two. A single document that is too large is written bare.
func (b *bulk) split(ctx context.Context, gone <-chan struct{}) error {
	if len(b.items) == 1 {
		if b.items[0].why != "" {
			return systemicf("%s %q: the document is larger than the server takes, even without its columns", b.layout.Name, b.items[0].change.Key)
		}
		b.items[0].why = "the document is larger than the server takes"
		b.tell(b.items[:1])
		if err := b.encode(); err != nil {
			return consumers.AsSystemic(err)
		}
		return b.write(ctx, gone)
	}
	half := len(b.items) / 2
	for _, items := range [][]item{b.items[:half], b.items[half:]} {
		part := b.sink.newBulk(b.layout)
		part.items, part.versions = items, b.versions
		err := part.encode()
		if err == nil {
			err = part.write(ctx, gone)
		}
		part.giveBack()
		if err != nil {
			return err
		}
	}
	return nil
}

// tell warns of documents that are not indexed; the first stands for all.
func (b *bulk) tell(refused []item) {
	if len(refused) > 0 {
		b.sink.metrics.unindexed.Add(float64(len(refused)))
		b.sink.log.Warn("the search server does not index documents; they are kept and found by their keys alone", "entity", b.layout.Name,
			"documents", len(refused), "key", refused[0].change.Key, "err", refused[0].why)
	}
}
