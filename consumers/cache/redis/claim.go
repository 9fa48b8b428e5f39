package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
)

// loadKeys is the number of states read by one command.
const loadKeys = 500

var errReply = errors.New("redis answers with something else")

// Claim implements fold.Sink.
func (s *Sink) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	if err := s.checkOnce(ctx); err != nil {
		return fold.Claim{}, err
	}
	token := rand.Text()
	reply, err := claimScript.Run(ctx, s.rdb, append(s.partitionKeys(tp), s.names.Partitions(), s.names.Serving()), token, listed(tp), s.pointer()).Slice()
	if err != nil {
		return fold.Claim{}, fmt.Errorf("claim %s/%d in redis: %w", tp.Topic, tp.Partition, classify(err))
	}
	c, err := readClaim(reply)
	if err != nil {
		return fold.Claim{}, fmt.Errorf("claim %s/%d in redis: %w", tp.Topic, tp.Partition, err)
	}
	s.mu.Lock()
	s.owners[tp] = token
	s.mu.Unlock()
	return c, nil
}

func (s *Sink) partitionKeys(tp consumers.TopicPartition) []string {
	return []string{s.names.Partition(tp.Topic, tp.Partition), s.names.Quarantine(tp.Topic, tp.Partition)}
}

func readClaim(reply []any) (c fold.Claim, err error) {
	if len(reply) != 3 {
		return c, errReply
	}
	epoch, ok1 := reply[0].(int64)
	next, ok2 := reply[1].(string)
	quarantined, ok3 := reply[2].([]any)
	if !ok1 || !ok2 || !ok3 || len(quarantined)%2 != 0 {
		return c, errReply
	}
	c.Epoch = epoch
	if c.Next, err = strconv.ParseInt(next, 10, 64); err != nil {
		return c, errReply
	}
	c.Quarantined = make(map[string]int64, len(quarantined)/2)
	for i := 0; i < len(quarantined); i += 2 {
		key, ok1 := quarantined[i].(string)
		value, ok2 := quarantined[i+1].(string)
		offset, err := strconv.ParseInt(value, 10, 64)
		if !ok1 || !ok2 || err != nil {
			return c, errReply
		}
		c.Quarantined[key] = offset
	}
	return c, nil
}

// listed is a partition as the set of partitions has it. Topics have no colon.
func listed(tp consumers.TopicPartition) string {
	return tp.Topic + ":" + strconv.Itoa(int(tp.Partition))
}

func unlist(s string) (tp consumers.TopicPartition, err error) {
	topic, number, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil {
		return tp, errReply
	}
	return consumers.TopicPartition{Topic: topic, Partition: int32(n)}, nil
}

// Positions implements fold.Sink.
func (s *Sink) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	list, err := s.rdb.SMembers(ctx, s.names.Partitions()).Result()
	if err != nil {
		return nil, fmt.Errorf("read positions from redis: %w", classify(err))
	}
	tps := make([]consumers.TopicPartition, len(list))
	next := make([]*redis.StringCmd, len(list))
	pipe := s.rdb.Pipeline()
	for i, name := range list {
		if tps[i], err = unlist(name); err != nil {
			return nil, fmt.Errorf("read positions from redis: partition %q: %w", name, err)
		}
		next[i] = pipe.HGet(ctx, s.names.Partition(tps[i].Topic, tps[i].Partition), "next")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) && len(list) > 0 {
		return nil, fmt.Errorf("read positions from redis: %w", classify(err))
	}
	out := make(map[consumers.TopicPartition]int64, len(list))
	for i, cmd := range next {
		switch n, err := cmd.Int64(); {
		case err == nil:
			out[tps[i]] = n
		case !errors.Is(err, redis.Nil): // claimed, never committed
			return nil, fmt.Errorf("read position of %s from redis: %w", list[i], classify(err))
		}
	}
	return out, nil
}

// Load implements fold.Sink.
func (s *Sink) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	p, ok := s.entities[entity]
	if !ok {
		return nil, consumers.AsSystemic(fmt.Errorf("load states of %s: the cache does not hold this entity", entity))
	}
	out := make(map[string]fold.Stored, len(keys))
	for len(keys) > 0 {
		part := keys[:min(loadKeys, len(keys))]
		keys = keys[len(part):]
		if err := s.loadPart(ctx, p, part, out); err != nil {
			return nil, fmt.Errorf("load states of %s from redis: %w", entity, err)
		}
	}
	return out, nil
}

func (s *Sink) loadPart(ctx context.Context, p fold.Projection, keys []string, out map[string]fold.Stored) error {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = s.names.State(p.Entity(), key)
	}
	values, err := s.rdb.MGet(ctx, names...).Result()
	if err != nil {
		return classify(err)
	}
	columns := p.Columns()
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			continue // never stored
		}
		if len(text) < versionDigits {
			return fmt.Errorf("key %q: %w", keys[i], errReply)
		}
		state, err := stored.Decode(columns, []byte(text[versionDigits:]))
		if err != nil {
			return fmt.Errorf("key %q: %w", keys[i], err)
		}
		out[keys[i]] = state
	}
	return nil
}
