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
	for i, p := range parts {
		last := i == len(parts)-1
		if err := s.crashAt(i, last); err != nil {
			return err
		}
		if err := s.run(ctx, c, p, last); err != nil {
			return fmt.Errorf("commit %s/%d from %d to %d to redis: %w", c.Topic, c.Partition, c.From, c.Next, err)
		}
	}
	return s.crashAt(len(parts), false)
}

// part is what one script call does, besides its checks.
type part struct {
	states   []string // names
	contents []any    // of each state: version, bytes
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
		p.least = append(p.least, fmt.Sprintf("%0*d", versionDigits, version))
	}
}

// plan cuts a batch into parts. Nothing is sent before all of it is known to be well-formed.
func (s *Sink) plan(c fold.Commit) ([]*part, error) {
	parts := []*part{{}}
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
		for _, change := range c.Changes[entity] {
			// The invalidations first: once the state is written, a repeat would not know them.
			for _, key := range change.CacheKeys {
				s.void(room(3, 3*len(key)), key, change.CacheVersion)
			}
			state, err := stored.Encode(columns, change.Stored)
			if err != nil {
				return nil, fmt.Errorf("%s %q: %w", entity, change.Key, err)
			}
			p := room(1, len(change.Key)+len(state))
			p.states = append(p.states, s.names.State(entity, change.Key))
			p.contents = append(p.contents, fmt.Sprintf("%0*d", versionDigits, max(change.Version, 0)), state)
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

func (s *Sink) run(ctx context.Context, c fold.Commit, p *part, last bool) error {
	s.mu.Lock()
	owner := s.owners[c.TopicPartition]
	s.mu.Unlock()
	next := ""
	if last {
		next = strconv.FormatInt(c.Next, 10)
	}
	replace := ""
	if c.Replace {
		replace, next = "replace", "" // the position stays
	}
	keys := slices.Concat(s.partitionKeys(c.TopicPartition), []string{s.names.Serving()}, p.states, p.floors, p.cached)
	args := slices.Concat([]any{c.Epoch, owner, c.From, next, len(p.states), len(p.marks) / 2, len(p.floors), s.pointer(), replace}, p.contents, p.marks, p.least)
	reply, err := commitScript.Run(ctx, s.rdb, keys, args...).StringSlice()
	if err != nil {
		return classify(err)
	}
	if len(reply) != 2 {
		return errReply
	}
	if reply[0] == "OK" {
		s.sawPointer(reply[1])
	}
	return refusal(reply[0], reply[1], c, owner != "")
}

// refusal says what the script's verdict means.
func refusal(verdict, stored string, c fold.Commit, claimed bool) error {
	switch verdict {
	case "OK":
		return nil
	case "FENCED":
		return fmt.Errorf("epoch %d, stored %s: %w", c.Epoch, stored, consumers.ErrFenced)
	case "POSITION":
		return fmt.Errorf("stored position is %s: %w", stored, consumers.ErrPosition)
	case "GONE":
		if claimed {
			return fmt.Errorf("redis has lost what we claimed: %w", consumers.ErrPosition) // claim anew, start anew
		}
		return fmt.Errorf("nobody has claimed it: %w", consumers.ErrFenced)
	}
	return errReply
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
