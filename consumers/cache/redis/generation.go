package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/internal/pace"
)

// maxServeTries bounds how often Serve looks anew because partitions were claimed, or the pointer moved, while it looked.
const maxServeTries = 10

// Serve implements fold.Generational: readers use this generation from the script on that moves the pointer. A sink that knows
// that it serves puts a lost pointer back; one that is opened for a generation that serves already knows it by Config.Serves, or by being told again.
func (s *Sink) Serve(ctx context.Context) error {
	for range maxServeTries {
		again, err := s.serve(ctx)
		if err != nil {
			return fmt.Errorf("have generation %d of cache %s serve: %w", s.names.Generation, s.names.Prefix, err)
		}
		if !again {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.serves = true
			return nil
		}
	}
	return fmt.Errorf("have generation %d of cache %s serve: the one that serves changes all the time", s.names.Generation, s.names.Prefix)
}

func (s *Sink) serve(ctx context.Context) (again bool, err error) {
	serving, err := s.serving(ctx)
	if err != nil {
		return false, err
	}
	theirs := s.names.Of(serving)
	list, err := s.rdb.SMembers(ctx, theirs.Partitions()).Result()
	if err != nil {
		return false, classify(err)
	}
	topics := map[string]bool{}
	for _, p := range s.entities {
		topics[p.Topic()] = true
	}
	keys := []string{s.names.Serving(), theirs.Partitions()}
	var compared []string
	for _, name := range list {
		tp, err := unlist(name)
		if err != nil {
			return false, fmt.Errorf("partition %q: %w", name, err)
		}
		if topics[tp.Topic] { // another topic is none of ours any more
			keys = append(keys, theirs.Partition(tp.Topic, tp.Partition), s.names.Partition(tp.Topic, tp.Partition))
			compared = append(compared, name)
		}
	}
	if err := s.stopAt("before serving"); err != nil {
		return false, err
	}
	reply, err := serveScript.Run(ctx, s.rdb, keys, s.names.Generation, serving, len(list)).StringSlice()
	if err != nil {
		return false, classify(err)
	}
	if again, err := served(reply, serving, compared); again || err != nil {
		return again, err
	}
	return false, s.stopAt("after serving")
}

// served says what the script's verdict means.
func served(reply []string, serving int, compared []string) (again bool, err error) {
	switch {
	case len(reply) == 1 && reply[0] == "OK":
		return false, nil
	case len(reply) == 1 && reply[0] == "AGAIN":
		return true, nil
	case len(reply) == 4 && reply[0] == "BEHIND":
		n, err := strconv.Atoi(reply[1])
		if err != nil || n < 1 || n > len(compared) {
			return false, errReply
		}
		return false, fmt.Errorf("%w: partition %s is at %s, in generation %d at %s", fold.ErrBehind, compared[n-1], reply[3], serving, reply[2])
	}
	return false, errReply
}

// serving reads which generation serves.
func (s *Sink) serving(ctx context.Context) (int, error) {
	n, err := s.rdb.Get(ctx, s.names.Serving()).Int()
	switch {
	case errors.Is(err, redis.Nil):
		return 1, nil
	case err != nil:
		return 0, classify(err)
	case n < 1:
		return 0, fmt.Errorf("%s holds %d: %w", s.names.Serving(), n, errReply)
	}
	return n, nil
}

// pointer is what the pointer has to hold if it is missing; empty if that is not for us to say.
func (s *Sink) pointer() string {
	serves := s.mayServe
	if serves == nil {
		serves = func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.serves
		}
	}
	if !serves() {
		return ""
	}
	return strconv.Itoa(s.names.Generation)
}

// sawPointer takes note of another generation that serves: a pointer that is lost later is not ours to put back.
func (s *Sink) sawPointer(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serves = s.serves && to == strconv.Itoa(s.names.Generation)
}

// removeKeys is the number of keys that one script removes.
const removeKeys = 500

// Remove implements fold.Generational. The positions go first: what is left of a generation after a crash cannot serve. Values that readers fill in with an old
// lease meanwhile end with their time to live.
func (s *Sink) Remove(ctx context.Context) error {
	list, err := s.rdb.SMembers(ctx, s.names.Partitions()).Result()
	if err != nil {
		return fmt.Errorf("remove generation %d of cache %s: %w", s.names.Generation, s.names.Prefix, classify(err))
	}
	var first []string
	for _, name := range list {
		if tp, err := unlist(name); err == nil {
			first = append(first, s.partitionKeys(tp)...)
		}
	}
	began, removed := time.Now(), int64(0)
	if err = s.stopAt("before the removal"); err == nil {
		err = s.remove(ctx, append(first, s.names.Partitions()), &removed)
	}
	if err == nil {
		err = s.stopAt("without positions")
	}
	if err == nil {
		err = s.scan(ctx, s.names.All(), func(rest []string) error {
			for i := range rest {
				rest[i] = s.names.All() + rest[i]
			}
			half := len(rest) / 2
			if err := s.remove(ctx, rest[:half], &removed); err != nil {
				return err
			}
			if err := s.stopAt("half removed"); err != nil {
				return err
			}
			return s.remove(ctx, rest[half:], &removed)
		})
	}
	if err != nil {
		return fmt.Errorf("remove generation %d of cache %s: %w", s.names.Generation, s.names.Prefix, err)
	}
	s.log.Info("a generation of the cache was removed", "prefix", s.names.Prefix, "generation", s.names.Generation, "keys", removed, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// remove removes keys, so many at once and so many a second.
func (s *Sink) remove(ctx context.Context, names []string, removed *int64) error {
	for part := range slices.Chunk(names, removeKeys) {
		n, err := removeScript.Run(ctx, s.rdb, append([]string{s.names.Serving()}, part...), s.names.Generation).Int64()
		switch {
		case err != nil:
			return classify(err)
		case n < 0:
			return fold.ErrServing
		}
		*removed += n
		if err := pace.Sleep(ctx, time.Duration(len(part))*time.Second/time.Duration(s.removeRate)); err != nil {
			return err
		}
	}
	return nil
}

// ServingGeneration is the generation that readers of a cache see: 1 before any other has served. It makes nothing.
func ServingGeneration(ctx context.Context, url, prefix string) (n int, err error) {
	names, err := cache.Names{Prefix: prefix}.WithDefaults()
	if err != nil {
		return 0, fmt.Errorf("redis: %w", err)
	}
	rdb, err := cache.Dial(url)
	if err != nil {
		return 0, fmt.Errorf("redis: %w", err)
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	if n, err = (&Sink{names: names, rdb: rdb}).serving(ctx); err != nil {
		return 0, fmt.Errorf("ask which generation of cache %s serves: %w", names.Prefix, err)
	}
	return n, nil
}

// RemoveGeneration removes a generation that nobody can open any more, for its declarations are gone; see Remove.
func RemoveGeneration(ctx context.Context, url, prefix string, generation int) (err error) {
	names, err := cache.Names{Prefix: prefix, Generation: generation}.WithDefaults()
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	rdb, err := cache.Dial(url)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer func() { err = errors.Join(err, rdb.Close()) }()
	return (&Sink{names: names, rdb: rdb, removeRate: defaultRemoveRate, log: slog.New(slog.DiscardHandler)}).Remove(ctx)
}
