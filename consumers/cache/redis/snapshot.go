package redis

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// scanKeys is about how many keys of the server one SCAN goes over. It holds up all other clients while it runs.
const scanKeys = 1000

// Snapshot implements fold.Snapshotter. Redis shows no moment: the positions are read first, the states while commits go on.
func (s *Sink) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	positions, err := s.Positions(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &snapshot{sink: s, positions: positions}, nil
}

type snapshot struct {
	sink      *Sink
	positions map[consumers.TopicPartition]int64
}

// Positions implements fold.Snapshot.
func (s *snapshot) Positions() map[consumers.TopicPartition]int64 { return s.positions }

// Exact implements fold.Snapshot.
func (s *snapshot) Exact() bool { return false }

// Close implements fold.Snapshot. There is nothing to let go of.
func (s *snapshot) Close() error { return nil }

// States implements fold.Snapshot. A state that is there all the time comes once; for that it remembers 8 bytes a key.
func (s *snapshot) States(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
	p, ok := s.sink.entities[entity]
	if !ok {
		return consumers.AsSystemic(fmt.Errorf("read states of %s: the cache does not hold this entity", entity))
	}
	seen, seed := map[uint64]struct{}{}, maphash.MakeSeed()
	err := s.sink.scan(ctx, s.sink.names.State(entity, ""), func(keys []string) error {
		keys = slices.DeleteFunc(keys, func(key string) bool { // SCAN may return a key again when the server changes its table
			h := maphash.String(seed, key)
			_, again := seen[h]
			seen[h] = struct{}{}
			return again
		})
		return s.part(ctx, p, keys, yield)
	})
	if err != nil {
		return fmt.Errorf("read states of %s from redis: %w", entity, err)
	}
	return nil
}

// part hands over the states of some keys.
func (s *snapshot) part(ctx context.Context, p fold.Projection, keys []string, yield func(string, fold.Stored) error) error {
	for part := range slices.Chunk(keys, loadKeys) {
		states := make(map[string]fold.Stored, len(part))
		if err := s.sink.loadPart(ctx, p, part, states); err != nil {
			return err
		}
		for key, state := range states {
			if err := yield(key, state); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan finds all keys that begin with the prefix, and hands over what follows it.
func (s *Sink) scan(ctx context.Context, prefix string, found func(rest []string) error) error {
	node, err := s.node(ctx)
	if err != nil {
		return err
	}
	pattern := glob.Replace(prefix) + "*"
	for cursor := uint64(0); ; {
		names, next, err := node.Scan(ctx, cursor, pattern, scanKeys).Result()
		if err != nil {
			return classify(err)
		}
		rest := make([]string, 0, len(names))
		for _, name := range names {
			if r, ok := strings.CutPrefix(name, prefix); ok {
				rest = append(rest, r)
			}
		}
		if len(rest) > 0 {
			if err := found(rest); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// node is the server that has our keys: of a cluster, the one of their slot.
func (s *Sink) node(ctx context.Context) (redis.Cmdable, error) {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return s.rdb, nil
	}
	node, err := cluster.MasterForKey(ctx, s.names.Serving())
	if err != nil {
		return nil, classify(err)
	}
	return node, nil
}

// glob writes a text so that a pattern matches it alone.
var glob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`, `-`, `\-`)
