package replay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Bound is one end of a range: a time, an offset of every partition, or offsets of some partitions. The zero value is no bound.
type Bound struct {
	// Time is compared with the records' own times.
	Time time.Time
	// All is an offset of every partition; nil for none.
	All *int64
	// Some are offsets of some partitions. As the beginning of a range, they leave the other partitions out.
	Some map[int32]int64
}

// ParseBound reads RFC 3339, OFFSET, or PARTITION:OFFSET with commas between them.
func ParseBound(text string) (Bound, error) {
	if text == "" {
		return Bound{}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return Bound{All: &n}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return Bound{Time: at}, nil
	}
	b := Bound{Some: map[int32]int64{}}
	for part := range strings.SplitSeq(text, ",") {
		p, o, both := strings.Cut(part, ":")
		partition, err1 := strconv.ParseInt(p, 10, 32)
		offset, err2 := strconv.ParseInt(o, 10, 64)
		if _, twice := b.Some[int32(partition)]; !both || err1 != nil || err2 != nil || partition < 0 || offset < 0 || twice {
			return Bound{}, fmt.Errorf("%q is no time such as 2026-01-31T10:00:00Z, no offset, and no partition:offset,partition:offset", text)
		}
		b.Some[int32(partition)] = offset
	}
	return b, nil
}

// String writes the bound as it is given: a time, an offset, or offsets by partition.
func (b Bound) String() string {
	switch {
	case !b.Time.IsZero():
		return b.Time.UTC().Format(time.RFC3339Nano)
	case b.All != nil:
		return strconv.FormatInt(*b.All, 10)
	}
	parts := make([]string, 0, len(b.Some))
	for p, o := range b.Some {
		parts = append(parts, fmt.Sprintf("%d:%d", p, o))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// offset is the bound in one partition, as far as it says an offset.
func (b Bound) offset(partition int32) (int64, bool) {
	if b.All != nil {
		return *b.All, true
	}
	o, ok := b.Some[partition]
	return o, ok
}

// bounds says from where to where each partition is read, and what of the range retention has taken. The end is never beyond what is
// committed now. A time bounds the records and not the offsets after it: in a topic of events times do not grow with offsets.
func (s *source) bounds(ctx context.Context, admin *kadm.Client, cfg Config) (parts []Partition, gone []Gone, err error) {
	for _, b := range []Bound{cfg.Since, cfg.Until} {
		for p := range b.Some {
			if p >= s.partitions() {
				return nil, nil, fmt.Errorf("%s has no partition %d: they are 0 to %d", s.topic, p, s.partitions()-1)
			}
		}
	}
	var first kadm.ListedOffsets
	if !cfg.Since.Time.IsZero() {
		first, err = admin.ListOffsetsAfterMilli(ctx, cfg.Since.Time.UnixMilli(), s.topic)
		if err == nil {
			err = first.Error()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("ask Kafka what %s holds since %s: %w", s.topic, cfg.Since, err)
		}
	}
	for p := range s.partitions() {
		if _, listed := cfg.Since.Some[p]; len(cfg.Since.Some) > 0 && !listed {
			continue
		}
		start, end := s.log.Extent(p)
		from := start
		if o, ok := cfg.Since.offset(p); ok {
			if from = o; o < min(start, end) {
				gone = append(gone, Gone{p, o, start - 1})
				from = start
			}
		}
		if o, ok := first.Lookup(s.topic, p); ok {
			from = max(start, o.Offset)
		}
		if o, ok := cfg.Until.offset(p); ok {
			end = min(end, o)
		}
		parts = append(parts, Partition{Partition: p, From: from, End: max(from, end), Next: from})
	}
	return parts, gone, nil
}
