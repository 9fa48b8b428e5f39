// Package bleve keeps search documents in an embedded index: fold.Sink and search.Searcher on bleve's scorch.
//
// # What it promises
//
//  1. A batch is in the index whole or not at all: documents, position, epoch and quarantine are one bleve batch.
//  2. A batch that Commit acknowledged survives a kill of the process and a loss of power.
//  3. A commit of a former owner, and one that does not start at the stored position, change nothing. bleve locks the directory to
//     one process, so a mutex per partition is all it takes.
//  4. Load returns a state exactly as it was committed: the document carries it, encoded, in a stored field.
//  5. A deleted state stays as a stub with its version, and no search returns it.
//  6. The declarations an index was built by are recorded in it. Others are refused once something was applied: a changed declaration is a rebuild.
//  7. Generations are in directories of their own. One is removed from its place in one step, and never the one that serves (promise 8).
//  8. A snapshot shows the states and positions of one moment, and holds no commit up.
//
// # How
//
// A batch becomes durable before bleve's Batch returns: the segment's file is written and synced, then a transaction of the root
// store names it, then that is synced (persister.go of scorch). This holds as long as unsafe_batch is off and the persister does
// not nap; both are defaults and this package sets neither. What scorch does not sync is the directory that holds the new file:
// Commit does. Batches of different partitions run at the same time and share those syncs.
//
// Everything is in one index under the generation's directory (Config.Path/index, Config.Path.g2/index), so that one batch may change several entities. The document of an entity's
// key is called entity/key. Its fields are made from the columns by this package and not by bleve's mapping, which stays empty:
// nothing is indexed that no column declares. Each field is called entity.column, so that entities may use one name for two types.
//
//	sink.go       Config, Open, Close
//	directory.go  creating, opening, locking; which declarations built it
//	layout.go     columns -> fields -> documents
//	commit.go     Claim, Load, Commit, Positions
//	snapshot.go   all states as of one batch
//	generation.go where each generation is, Serve, Remove
//	partition.go  what is stored of a partition
//	rewrite.go    a stranger's query, as package query understands it, in bleve's terms, clause by clause (clauses.go)
//	search.go     Search
//
// # Non-obvious
//
//   - scorch writes every internal value with every batch. Partitions are therefore one value each and quarantines are expected to
//     stay few.
//   - After a failed Batch the index in memory may hold what is not on the disk. That is harmless: batches become durable in order,
//     and what is read of a partition is always its latest batch.
//   - bleve drops a "must" clause that can match nothing instead of matching nothing; rewrite.go builds trees in which it cannot.
//   - Numbers are indexed as float64. Searches for integers beyond 2^53 and long decimals are approximate; the fields of a hit are exact.
package bleve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/blevesearch/bleve/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
)

// Config says where the index is and what it holds.
type Config struct {
	// Path is the directory of the index. It is created if missing; one process at a time may open it. Required.
	Path string
	// Generation is the build of the index, from 1. Generation 1 is in Path, each later one in a directory of its own beside it: Path.g2. Default 1.
	Generation int
	// Projections are the entities to index. Required.
	Projections []fold.Projection
	// MaxSearches is the number of searches that run at once; others wait, within their own time. Default 8.
	MaxSearches int
	// Logger receives what an operator should know. Default slog.Default.
	Logger *slog.Logger
}

// WithDefaults returns a copy with zero values replaced.
func (c Config) WithDefaults() Config {
	c.Generation = cmp.Or(c.Generation, 1)
	if c.MaxSearches == 0 {
		c.MaxSearches = 8
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Path == "":
		return errors.New("bleve: Path is missing")
	case c.Generation < 1:
		return fmt.Errorf("bleve: Generation is %d, below 1", c.Generation)
	case len(c.Projections) == 0:
		return errors.New("bleve: Projections is empty")
	case c.MaxSearches < 0:
		return fmt.Errorf("bleve: MaxSearches is %d", c.MaxSearches)
	}
	return nil
}

// Sink is the index.
type Sink struct {
	log      *slog.Logger
	layouts  map[string]*layout // by entity
	place    place              // where the index is
	storeDir string             // where scorch keeps its segment files
	searches chan struct{}      // a slot for each running search

	crash func(point string) error // tests stop a Commit here; nil otherwise

	closing sync.RWMutex // guards index: held for reading while it is in use
	index   bleve.Index  // nil once closed

	mu         sync.Mutex // guards partitions; taken before a partition's own
	partitions map[consumers.TopicPartition]*partition
}

var (
	_ fold.Snapshotter  = (*Sink)(nil)
	_ fold.Generational = (*Sink)(nil)
	_ search.Searcher   = (*Sink)(nil)
)

// Open opens the index, or creates it. It fails with a systemic ErrDeclaration if the index was built by other declarations, and
// with ErrLocked while another process has it open.
func Open(cfg Config) (*Sink, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	layouts, err := newLayouts(cfg.Projections)
	if err != nil {
		return nil, err
	}
	at := place{cfg.Path, cfg.Generation}
	index, err := openIndex(at.dir(), declarations(cfg.Projections, layouts))
	if err != nil {
		return nil, err
	}
	s := &Sink{
		log:      cfg.Logger,
		layouts:  layouts,
		place:    at,
		storeDir: storeDir(at.dir()),
		searches: make(chan struct{}, cfg.MaxSearches),
		index:    index,
	}
	if s.partitions, err = readPartitions(index); err != nil {
		return nil, errors.Join(err, index.Close())
	}
	s.log.Info("search index opened", "path", at.dir(), "entities", len(layouts), "partitions", len(s.partitions))
	return s, nil
}

// Close waits for what is under way and closes the index. A second Close does nothing.
func (s *Sink) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.index == nil {
		return nil
	}
	err := s.index.Close()
	s.index = nil
	if err != nil {
		return fmt.Errorf("close search index: %w", err)
	}
	return nil
}

// use returns the open index and a function to be called when it is no longer needed.
func (s *Sink) use(ctx context.Context) (bleve.Index, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.closing.RLock()
	if s.index == nil {
		s.closing.RUnlock()
		return nil, nil, ErrClosed
	}
	return s.index, s.closing.RUnlock, nil
}
