// Package redis invalidates cached values in Redis, or what speaks its protocol: fold.Sink on go-redis.
//
// # What it promises
//
//  1. One script checks the epoch and the position, deletes the values and voids the leases of a batch's cache keys, writes the
//     states and moves the position: atomically, for a batch of ordinary size.
//  2. A larger batch is cut into several scripts. Each checks epoch and position again, and that the one before it was carried out; the position moves with
//     the last. A state is never written before the cache keys of its change are invalidated, so a repeat after a crash invalidates what is missing and
//     changes nothing else: states carry their version, and an older one does not replace a newer.
//  3. A commit of a former owner changes nothing, even if Redis lost everything in between and counts epochs from 1 again: each claim
//     leaves a random token as well.
//  4. An emptied Redis is filled again from the topic: Claim says that nothing was ever applied. With the keys the pointer to the generation that serves was
//     lost; the sink on which Serve was called puts it back before it invalidates anything.
//  5. A generation takes readers over in one script, which compares its positions with those of the one that serves (promise 8). It is removed in small
//     steps, each of which looks that it does not serve.
//
// Cache keys come from the state, so states are kept here, too. They and the positions have no time to live and must not be evicted:
// with maxmemory set, maxmemory-policy must be noeviction or one of volatile-*. Check says so before the first claim.
//
//	sink.go    Config, Open, Check
//	claim.go   Claim, Positions, Load
//	commit.go  Commit: a batch -> operations
//	send.go    operations -> scripts, one behind the other
//	snapshot.go, generation.go  all states, by SCAN; Serve and Remove
//	purge.go   what is purged from caches before the application, first
//	script.go  the Lua scripts
//	errors.go  what errors mean
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/fold"
)

// Config says which server, under which names, and which entities.
type Config struct {
	// URL is written as cache.Dial says. Required.
	URL string
	// Prefix and Generation name the keys, see cache.Names. Readers use the generation that Serve was called of last; 1 at first. Defaults "millrace" and 1.
	Prefix     string
	Generation int
	// Projections are the entities whose cache keys are invalidated. Required.
	Projections []fold.Projection
	// Purger, where set, has the cache keys of each batch purged from the caches before the application (a CDN), after they were voided here and before anything of
	// the batch is stored: at least once, in no order, never left out. Close closes it. Default: nothing is purged.
	Purger Purger
	// CommitTimeout bounds a script that has been sent: it is not interrupted by the caller's context. Default 10 s.
	CommitTimeout time.Duration
	// Serves says whether readers use this generation, as far as who runs the sink knows: a pointer that is lost is put back then, see Serve. Default: since
	// Serve was called, and until another generation is seen to serve.
	Serves func() bool
	// RemoveRate is how many keys a second Remove removes at most. Default 20,000.
	RemoveRate int
	// Logger receives what an operator should know. Default slog.Default.
	Logger *slog.Logger
}

// Sizes of one script call. A script holds up all other clients of the server while it runs.
const (
	maxScriptKeys  = 1000
	maxScriptBytes = 1 << 20
)

// Sink invalidates.
type Sink struct {
	names         cache.Names
	rdb           redis.UniversalClient
	entities      map[string]fold.Projection
	commitTimeout time.Duration
	purger        Purger      // or nil
	removeRate    int         // keys a second
	mayServe      func() bool // or nil
	log           *slog.Logger

	maxKeys, maxBytes int                      // of a script call; tests make them small
	crash             func(point string) error // tests stop a Commit here; nil otherwise

	mu      sync.Mutex                          // guards the following
	checked bool                                // Check has succeeded
	serves  bool                                // Serve has succeeded: a pointer that is lost is ours to put back
	owners  map[consumers.TopicPartition]string // the token of our last claim
	purged  map[consumers.TopicPartition]purged
}

var (
	_ fold.Snapshotter  = (*Sink)(nil)
	_ fold.Generational = (*Sink)(nil)
)

// Open makes a sink. It does not wait for the server: a server that is away, or set up in a way that cannot work, shows in Check and
// in the first Claim.
func Open(cfg Config) (*Sink, error) {
	names, err := cache.Names{Prefix: cfg.Prefix, Generation: cfg.Generation}.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if len(cfg.Projections) == 0 {
		return nil, errors.New("redis: Projections is empty")
	}
	entities := make(map[string]fold.Projection, len(cfg.Projections))
	for _, p := range cfg.Projections {
		if entities[p.Entity()] != nil {
			return nil, fmt.Errorf("redis: entity %s is declared twice", p.Entity())
		}
		entities[p.Entity()] = p
	}
	rdb, err := cache.Dial(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	s := &Sink{
		names: names, rdb: rdb, entities: entities,
		commitTimeout: cfg.CommitTimeout, purger: cfg.Purger, removeRate: cfg.RemoveRate, mayServe: cfg.Serves, log: cfg.Logger,
		maxKeys: maxScriptKeys, maxBytes: maxScriptBytes,
		owners: map[consumers.TopicPartition]string{}, purged: map[consumers.TopicPartition]purged{},
	}
	if s.commitTimeout == 0 {
		s.commitTimeout = 10 * time.Second
	}
	if s.removeRate <= 0 {
		s.removeRate = defaultRemoveRate
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s, nil
}

// defaultRemoveRate is Config.RemoveRate where that is not set.
const defaultRemoveRate = 20_000

// Close closes the connections.
func (s *Sink) Close() error {
	if s.purger != nil {
		defer s.purger.Close()
	}
	if err := s.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// Check reads whether the server can keep what must be kept, and whether what it keeps was made by our declarations. Both failures
// are systemic: ErrEviction and ErrDeclaration. The first Claim calls it.
func (s *Sink) Check(ctx context.Context) error {
	if err := s.checkEviction(ctx); err != nil {
		return err
	}
	return s.checkDeclarations(ctx)
}

func (s *Sink) checkOnce(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked {
		return nil
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	s.checked = true
	return nil
}

func (s *Sink) checkEviction(ctx context.Context) error {
	set, err := s.rdb.ConfigGet(ctx, "maxmemory*").Result()
	if refuses(err) {
		s.log.Warn("redis does not tell its maxmemory-policy: make sure that it is noeviction or one of volatile-*", "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read maxmemory-policy: %w", classify(err))
	}
	policy := set["maxmemory-policy"]
	if !strings.HasPrefix(policy, "allkeys-") {
		return nil
	}
	if limit := set["maxmemory"]; limit == "" || limit == "0" {
		s.log.Warn("redis would evict the cache's states if it were given a maxmemory", "maxmemory-policy", policy)
		return nil
	}
	return consumers.AsSystemic(fmt.Errorf("%w: maxmemory-policy is %s with maxmemory set; run CONFIG SET maxmemory-policy volatile-lru, which evicts cached values only, or give the sink a server of its own", ErrEviction, policy))
}

// checkDeclarations compares what made the states with what we are, and leaves our mark where there is none.
func (s *Sink) checkDeclarations(ctx context.Context) error {
	args := make([]any, 0, 2*len(s.entities))
	for _, entity := range slices.Sorted(maps.Keys(s.entities)) {
		p := s.entities[entity]
		args = append(args, entity, p.Topic()+" "+p.Digest())
	}
	other, err := declareScript.Run(ctx, s.rdb, []string{s.names.Declarations()}, args...).StringSlice()
	if err != nil {
		return fmt.Errorf("read declarations: %w", classify(err))
	}
	if len(other) > 0 {
		// What nothing was applied to has no states: it goes on by our declarations.
		at, err := s.Positions(ctx)
		if err == nil && len(at) == 0 {
			other, err = s.declareAnew(ctx, args)
		}
		if err != nil {
			return fmt.Errorf("read declarations: %w", classify(err))
		}
	}
	if len(other) > 0 {
		return consumers.AsSystemic(fmt.Errorf("%w: %s differ from what made the keys %s*; build a new generation of the sink: millrace rebuild",
			ErrDeclaration, strings.Join(other, ", "), s.names.All()))
	}
	return nil
}

// declareAnew leaves our mark in the place of another's.
func (s *Sink) declareAnew(ctx context.Context, args []any) (other []string, err error) {
	if err := s.rdb.Del(ctx, s.names.Declarations()).Err(); err != nil {
		return nil, err
	}
	return declareScript.Run(ctx, s.rdb, []string{s.names.Declarations()}, args...).StringSlice()
}
