package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
)

// versionDigits is the length of the version in front of a stored state: digits of one length compare as numbers do, exactly, which
// Lua's numbers do not beyond 2^53.
const versionDigits = 19

// Commit implements fold.Sink.
func (s *Sink) Commit(ctx context.Context, c fold.Commit) error {
	parts, err := s.plan(c)
	if err != nil {
		return consumers.AsSystemic(fmt.Errorf("commit %s/%d: %w", c.Topic, c.Partition, err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.purgeFirst(ctx, c); err != nil {
		return err
	}
	// A script that was sent runs, whether or not somebody waits for it: we do.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.commitTimeout)
	defer cancel()
	calls, together := s.calls(c, parts, true), maxSent
	if s.crash != nil {
		together = 1
	}
	for i := 0; i < len(calls); i += together {
		if err := s.crashAt(i, i == len(calls)-1); err != nil {
			return err
		}
		if err := s.send(ctx, c, calls[i:min(i+together, len(calls))]); err != nil {
			return fmt.Errorf("commit %s/%d from %d to %d to redis: %w", c.Topic, c.Partition, c.From, c.Next, err)
		}
	}
	return s.crashAt(len(parts), false)
}

// part is what one script call does, besides its checks.
type part struct {
	states   []string // names
	contents []any    // of each state: its version in digits, and its bytes
	cached   []string // names of values and leases
	floors   []string // names
	least    []any    // of each floor
	marks    []any    // key, what becomes of its mark, …
	bytes    int
}

func (p *part) keys() int { return len(p.states) + len(p.cached) + len(p.floors) + len(p.marks)/2 }

// void takes a cache key in. With a version, replicas that have not come to it fill nothing in any more.
func (s *Sink) void(p *part, key string, version int64) {
	p.cached = append(p.cached, s.names.Value(key), s.names.Lease(key))
	if version > 0 {
		p.floors = append(p.floors, s.names.Floor(key))
		p.least = append(p.least, appendVersion(nil, version))
	}
}

// appendVersion appends a version in its digits.
func appendVersion(b []byte, version int64) []byte {
	const zeros = "0000000000000000000"
	var room [20]byte
	digits := strconv.AppendInt(room[:0], max(version, 0), 10)
	return append(append(b, zeros[:versionDigits-len(digits)]...), digits...)
}

// plan cuts a batch into parts. Nothing is sent before all of it is known to be well-formed.
func (s *Sink) plan(c fold.Commit) ([]*part, error) {
	parts, buf := []*part{{}}, []byte(nil)
	room := func(keys, bytes int) *part {
		p := parts[len(parts)-1]
		if p.keys() > 0 && (p.keys()+keys > s.maxKeys || p.bytes+bytes > s.maxBytes) {
			p = &part{}
			parts = append(parts, p)
		}
		p.bytes += bytes
		return p
	}
	for _, entity := range slices.Sorted(maps.Keys(c.Changes)) {
		projection, ok := s.entities[entity]
		if !ok {
			return nil, fmt.Errorf("the cache does not hold %s", entity)
		}
		columns := projection.Columns()
		for i := range c.Changes[entity] {
			change := &c.Changes[entity][i]
			// The invalidations first: once the state is written, a repeat would not know them.
			for _, key := range change.CacheKeys {
				s.void(room(3, 3*len(key)), key, change.CacheVersion)
			}
			if cap(buf)-len(buf) < 1<<10 {
				buf = make([]byte, 0, 64<<10) // the states before stay where they are
			}
			start, err := len(buf), error(nil)
			if buf, err = stored.Append(appendVersion(buf, change.Version), columns, change.Stored); err != nil {
				return nil, fmt.Errorf("%s %q: %w", entity, change.Key, err)
			}
			p := room(1, len(change.Key)+len(buf)-start)
			p.states = append(p.states, s.names.State(entity, change.Key))
			p.contents = append(p.contents, buf[start:len(buf):len(buf)])
		}
	}
	// After the states: a mark that is lifted lets the key's next events pass.
	marks := marksOf(c)
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		p := room(1, len(key))
		p.marks = append(p.marks, key, marks[key])
	}
	return parts, nil
}

// marksOf says what becomes of the mark of each key: "" lifts it, "+n" sets one if there is none, "=n" replaces it. A key has one
// entry, so that no part of a batch leaves it without the mark that it is to have.
func marksOf(c fold.Commit) map[string]string {
	marks := make(map[string]string, len(c.Lifted)+len(c.Quarantine))
	for _, key := range c.Lifted {
		marks[key] = ""
	}
	for key, offset := range c.Quarantine {
		if _, lifted := marks[key]; lifted {
			marks[key] = fmt.Sprintf("=%d", offset)
		} else {
			marks[key] = fmt.Sprintf("+%d", offset)
		}
	}
	return marks
}

// crashAt lets tests stop a Commit before part i.
func (s *Sink) crashAt(i int, last bool) error {
	if s.crash == nil {
		return nil
	}
	points := []string{"after a script"}
	if i == 0 {
		points = []string{"before the first script"}
	}
	if last {
		points = append(points, "before the last script") // which may be the first as well
	}
	for _, point := range points {
		if err := s.stopAt(point); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) stopAt(point string) error {
	if s.crash == nil {
		return nil
	}
	return s.crash(point)
}
