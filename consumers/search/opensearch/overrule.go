package opensearch

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace/millrace/consumers/fold"
)

// guard says what a write gives way to.
type guard struct {
	// versions says which versions of what is stored: newer, or newerOrEqual.
	versions string
	// at is the document as it was read, in the place of a version.
	at *place
}

// place is a document as it was read: another write since has another place. One that was not there has none.
type place struct{ seq, term int64 }

// append writes the line of a bulk request that says what to do.
func (g guard) append(dst []byte, c *fold.Change) []byte {
	switch {
	case g.at == nil:
		dst = appendString(append(dst, `{"index":{"_id":`...), id(c.Key))
		dst = strconv.AppendInt(append(dst, `,"version":`...), c.Version, 10)
		dst = append(append(dst, `,"version_type":"`...), g.versions...)
		dst = append(dst, '"')
	case *g.at == place{}:
		dst = appendString(append(dst, `{"create":{"_id":`...), id(c.Key))
	default:
		dst = appendString(append(dst, `{"index":{"_id":`...), id(c.Key))
		dst = strconv.AppendInt(append(dst, `,"if_seq_no":`...), g.at.seq, 10)
		dst = strconv.AppendInt(append(dst, `,"if_primary_term":`...), g.at.term, 10)
	}
	return append(dst, "}}\n"...)
}

// overrule looks at the documents that writes gave way to. The server compares numbers that anybody moves on: a stranger's change or removal of a document gives it
// the next one, which is no event's. What holds is the version in the state: where that does not keep the write out, it is made in the place of what was read.
//
// Promise 4: whoever writes in between has another place, and is looked at again.
func (b *bulk) overrule(ctx context.Context, gone <-chan struct{}) error {
	outdone := b.outdone
	b.outdone = nil
	for some := range slices.Chunk(outdone, loadKeys) {
		left, err := b.unjustly(ctx, some)
		if err != nil {
			return fmt.Errorf("look at documents of %s that are newer than what is written: %w", b.layout.Name, err)
		}
		if len(left) == 0 {
			continue
		}
		b.sink.log.Warn("documents were changed by somebody who is not the sink; they are written anyway", "entity", b.layout.Name, "documents", len(left), "key", left[0].change.Key)
		part := b.sink.newBulk(b.layout)
		part.items, part.versions = left, b.versions
		if err = part.encode(); err == nil {
			err = part.write(ctx, gone)
		}
		part.giveBack()
		if err != nil {
			return err
		}
	}
	return nil
}

// unjustly returns those of the items whose documents hold no state that keeps the write out, with their places.
func (b *bulk) unjustly(ctx context.Context, items []item) (left []item, err error) {
	keys := make([]string, len(items))
	for i, it := range items {
		keys[i] = it.change.Key
	}
	docs, err := getAll[got](ctx, b.sink, b.layout, keys, stateField)
	if err != nil {
		return nil, err
	}
	for i, it := range items {
		held, found, err := b.layout.state(&docs[i], keys[i])
		switch {
		case err != nil:
			return nil, fmt.Errorf("key %q: %w", keys[i], err)
		case found && (held.Version > it.change.Version || held.Version == it.change.Version && b.versions == newer):
			continue
		case docs[i].Found:
			it.at = &place{docs[i].Seq, docs[i].Term}
		default:
			it.at = &place{}
		}
		left = append(left, it)
	}
	return left, nil
}
