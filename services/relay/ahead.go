package relay

import (
	"bytes"
	"cmp"
	"context"
	"slices"
)

// expect reads the records of the events that are asked for next, and keeps them until it is called again: events of many keys lie
// mixed on the parked topic, so reading them line by line would read the same stretches again and again. The caller bounds how many
// they are, and how large.
func (c *parkedContents) expect(ctx context.Context, next []held) error {
	kept := make(map[int64][]byte, len(next))
	next = slices.Clone(next)
	slices.SortFunc(next, func(a, b held) int { return cmp.Compare(a.offset, b.offset) })
	for _, h := range next {
		value, err := c.value(ctx, h)
		if err != nil {
			return err
		}
		kept[h.offset] = bytes.Clone(value) // nil stays nil; a stretch is not kept for one record of it
	}
	c.kept = kept
	return nil
}

// upcoming are the events that the next page of a release asks for, in the order of their release: of each line that is due, from its
// head, up to a page. A line may stop before them; what is not among them is read when it is asked for.
func (c *clerk) upcoming() []held {
	var next []held
	size := 0
	for _, q := range c.due {
		if len(q.events) == 0 || !q.forced && q.head().reason != ReasonBehind {
			continue
		}
		for _, h := range q.events {
			if h.gone {
				continue
			}
			if len(next) >= c.pageSize() || size >= releaseBytes {
				return next
			}
			next = append(next, h)
			size += int(h.size)
		}
	}
	return next
}
