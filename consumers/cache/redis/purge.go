package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/consumers/fold"
)

// Purger forgets what caches before the application hold; *purge.Purger is one.
type Purger interface {
	// Purge returns nil when all keys are taken. With an error, done is the number of keys at the beginning that were.
	Purge(ctx context.Context, keys []string) (done int, err error)
	Close() error
}

// purged is how far the purge of one batch is.
type purged struct {
	epoch, from, next int64
	done              int
}

// purgeFirst voids the values and leases of a batch, and then has them purged.
//
// The order is what makes it hold. Values first: whoever fills the CDN again asks the application, which would still be served the old value by Redis. And
// all of it before the states: once those are written, a repetition after a crash would not know the keys any more.
func (s *Sink) purgeFirst(ctx context.Context, c fold.Commit) error {
	if s.purger == nil {
		return nil
	}
	keys, least := cacheKeys(c)
	if len(keys) == 0 {
		return nil
	}
	for rest := keys; len(rest) > 0; {
		n := min(max(s.maxKeys/3, 1), len(rest))
		p := &part{}
		for _, key := range rest[:n] {
			s.void(p, key, least[key])
		}
		if err := s.send(ctx, c, s.calls(c, []*part{p}, false)); err != nil {
			return fmt.Errorf("void values of %s/%d from %d in redis: %w", c.Topic, c.Partition, c.From, err)
		}
		rest = rest[n:]
	}
	at := s.purgedOf(c)
	if at.done >= len(keys) {
		return nil // all were, before a part of the states was written: a repetition has those only that are not
	}
	done, err := s.purger.Purge(ctx, keys[at.done:])
	at.done += done
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purged[c.TopicPartition] = at
	return err
}

// purgedOf is how far an earlier try of the same batch came.
func (s *Sink) purgedOf(c fold.Commit) purged {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.purged[c.TopicPartition]
	if at.epoch != c.Epoch || at.from != c.From || at.next != c.Next || c.From == c.Next {
		return purged{epoch: c.Epoch, from: c.From, next: c.Next}
	}
	return at
}

// cacheKeys are those of all changes, each once, and the version of each.
func cacheKeys(c fold.Commit) (keys []string, least map[string]int64) {
	least = map[string]int64{}
	for _, changes := range c.Changes {
		for _, ch := range changes {
			for _, key := range ch.CacheKeys {
				least[key] = max(least[key], ch.CacheVersion)
			}
		}
	}
	return slices.Sorted(maps.Keys(least)), least
}
