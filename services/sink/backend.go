package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/cache/purge"
	"github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/position"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/search/bleve"
	"github.com/millrace/millrace/consumers/search/opensearch"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/duckdb"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
	"github.com/millrace/millrace/consumers/webhook"
	"github.com/millrace/millrace/schemas"
)

// Role is what a sink is for.
type Role string

const (
	// Warehouse keeps every event and the state of every entity, and answers SQL.
	Warehouse Role = "warehouse"
	// Search keeps documents and answers queries.
	Search Role = "search"
	// Cache keeps an application's cache from serving what is no longer so.
	Cache Role = "cache"
	// Webhook posts every event to somebody's server.
	Webhook Role = "webhook"
)

// kind is one kind of backend.
type kind struct {
	role Role
	// needs is the setting that says where it is: "path" or "url".
	needs string
	// bronze says that it follows topics without any projection, for it keeps events as they came.
	bronze bool
	// serves is the last part of the path under which it answers, "" if it does not.
	serves string
	// check, where set, looks at what needs names.
	check func(Config) error
	// missing, where set, is why this program does not have it.
	missing error
	// serving asks the store itself which generation serves, and makes nothing; 0 if it has none. nil: it cannot be asked.
	serving func(ctx context.Context, cfg Config) (int, error)
	// remove removes a generation of these entities without opening it; nil: it has to be opened.
	remove func(ctx context.Context, cfg Config, generation int, entities []string) error
	open   func(cfg Config, parts Parts, projections []fold.Projection, logger *slog.Logger) (backend, error)
}

// backend is an open store.
type backend struct {
	sink    fold.Sink
	handler http.Handler                // nil if it serves nothing
	gold    func() (gold.Engine, error) // nil if it is no warehouse
}

func (b backend) Close() error { return b.sink.Close() }

var _ io.Closer = backend{}

var kinds = map[string]kind{
	"duckdb":     {role: Warehouse, needs: "path", bronze: true, serves: "sql", missing: noDuckDB, open: openDuckDB, serving: servingDuckDB, remove: removeDuckDB},
	"bleve":      {role: Search, needs: "path", serves: "search", open: openBleve, serving: servingBleve, remove: removeBleve},
	"opensearch": {role: Search, needs: "url", serves: "search", check: checkOpenSearch, open: openOpenSearch, serving: servingOpenSearch, remove: removeOpenSearch},
	"postgres":   {role: Warehouse, needs: "url", bronze: true, serves: "sql", check: checkPostgres, open: openPostgres, serving: servingPostgres, remove: removePostgres},
	"redis":      {role: Cache, needs: "url", check: checkRedis, open: openRedis, serving: servingRedis, remove: removeRedis},
	"webhook":    {role: Webhook, needs: "url", bronze: true, check: checkWebhook, open: openWebhook},
}

func openDuckDB(cfg Config, _ Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
	w, err := duckdb.Open(duckdb.Config{
		Path: cfg.Path, Generation: cfg.generation, Bronze: warehouse.Bronze(cfg.Bronze), Projections: projections, Logger: logger, Registerer: cfg.metrics,
	})
	if err != nil {
		return backend{}, fmt.Errorf("open the warehouse: %w", err)
	}
	return backend{sink: w, handler: warehouse.Handler(w, logger), gold: w.Gold}, nil
}

// checkPostgres reads the connection string and connects to nothing.
func checkPostgres(cfg Config) error { return postgres.CheckURL(cfg.URL) }

func openPostgres(cfg Config, _ Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
	w, err := postgres.Open(postgres.Config{
		URL: cfg.URL, Schema: cfg.Schema, Generation: cfg.generation, Bronze: postgres.Bronze(cfg.Bronze), Projections: projections, Connections: cfg.Connections, Logger: logger,
		Registerer: cfg.metrics,
	})
	if err != nil {
		return backend{}, fmt.Errorf("open the warehouse: %w", err)
	}
	return backend{sink: w, handler: warehouse.Handler(w, logger), gold: w.Gold}, nil
}

func openBleve(cfg Config, _ Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
	s, err := bleve.Open(bleve.Config{Path: cfg.Path, Generation: cfg.generation, Projections: projections, Logger: logger})
	if err != nil {
		return backend{}, fmt.Errorf("open the search index: %w", err)
	}
	return backend{sink: s, handler: search.Handler(s, logger)}, nil
}

// checkOpenSearch looks at the address and connects to nothing.
func checkOpenSearch(cfg Config) error { return opensearch.CheckURL(cfg.URL) }

func openOpenSearch(cfg Config, _ Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return backend{}, consumers.AsSystemic(fmt.Errorf("open the search indices: tls: %w", err))
	}
	s, err := opensearch.Open(opensearch.Config{
		URL: cfg.URL, Username: cfg.Username, Password: cfg.Password, TLS: secure, Prefix: cfg.IndexPrefix, Generation: cfg.generation,
		Building: cfg.building, RefreshInterval: cfg.RefreshInterval, Compress: cfg.Compress, Projections: projections, Logger: logger, Registerer: cfg.metrics,
	})
	if err != nil {
		return backend{}, err
	}
	return backend{sink: s, handler: search.Handler(s, logger)}, nil
}

// checkRedis makes a client and connects to nothing.
func checkRedis(cfg Config) error {
	cl, err := cache.Dial(cfg.URL)
	if err != nil {
		return err
	}
	return cl.Close()
}

// redisLook bounds the first look at what a cache holds.
const redisLook = 5 * time.Second

func openRedis(cfg Config, _ Parts, projections []fold.Projection, logger *slog.Logger) (backend, error) {
	rc := redis.Config{URL: cfg.URL, Prefix: cfg.Prefix, Generation: cfg.generation, Projections: projections, Logger: logger}
	if cfg.effects != nil {
		rc.Serves = cfg.effects.Load // who has effects outside is who serves
	}
	if cfg.Purge.set() {
		p, err := purge.New(cfg.Purge.config())
		if err != nil {
			return backend{}, consumers.AsSystemic(fmt.Errorf("open the cache: %w", err))
		}
		rc.Purger = quiet{p, cfg.effects}
	}
	s, err := redis.Open(rc)
	if err != nil {
		return backend{}, fmt.Errorf("open the cache: %w", err)
	}
	// Other stores are looked at when they are opened; a server that is away is waited for later.
	ctx, cancel := context.WithTimeout(context.Background(), redisLook)
	defer cancel()
	if err := s.Check(ctx); consumers.Classify(err) == consumers.Systemic {
		return backend{}, errors.Join(fmt.Errorf("open the cache: %w", err), s.Close())
	}
	return backend{sink: s}, nil
}

// quiet is a purger of a store that may have effects outside, or not: those of a generation that does not serve are another's.
type quiet struct {
	redis.Purger
	effects *atomic.Bool // nil: always
}

// Purge implements redis.Purger.
func (q quiet) Purge(ctx context.Context, keys []string) (done int, err error) {
	if q.effects != nil && !q.effects.Load() {
		return len(keys), nil
	}
	return q.Purger.Purge(ctx, keys)
}

// checkWebhook looks at the address and connects to nothing.
func checkWebhook(cfg Config) error { return webhook.CheckURL(cfg.URL) }

func openWebhook(cfg Config, parts Parts, _ []fold.Projection, logger *slog.Logger) (backend, error) {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return backend{}, consumers.AsSystemic(fmt.Errorf("open the webhook: tls: %w", err))
	}
	positions, err := position.New(position.Config{Sink: cfg.Name, Kafka: parts.Kafka, Logger: logger})
	if err != nil {
		return backend{}, consumers.AsSystemic(fmt.Errorf("open the webhook: %w", err))
	}
	since, err := startTime(cfg.Start, time.Now())
	if err != nil {
		return backend{}, errors.Join(consumers.AsSystemic(wrong("start", "%w", err)), positions.Close())
	}
	var start func(context.Context, consumers.TopicPartition) (int64, error)
	if !since.IsZero() {
		start = beginsAt(parts.Kafka, since)
	}
	s, err := webhook.New(webhook.Config{
		Start: start, Name: cfg.Name, URL: cfg.URL, Secret: cfg.Secret, Headers: cfg.Headers, TLS: secure, Concurrency: cfg.Concurrency, Timeout: cfg.Timeout,
		Skip: cfg.skip(), Positions: positions, Registerer: parts.Metrics,
	})
	if err != nil {
		return backend{}, errors.Join(consumers.AsSystemic(err), positions.Close())
	}
	cfg.tellUnknownTypes(parts.Catalogue, logger)
	return backend{sink: s}, nil
}

// tellUnknownTypes warns of types that the catalogue does not have: a name that is spelled wrong leaves events out without a word.
func (c Config) tellUnknownTypes(catalogue *schemas.Catalogue, logger *slog.Logger) {
	if catalogue == nil {
		return
	}
	for _, t := range c.Types {
		if _, known := catalogue.Lookup(t); !known {
			logger.Warn("no schema is named as in types, such as shop.OrderPlaced: is it spelled right? Events of other types are left out for good", "type", t)
		}
	}
}

// skip is true for events of types that are not asked for; nil if every type is.
func (c Config) skip() func(*consumers.Event) bool {
	if len(c.Types) == 0 {
		return nil
	}
	return func(ev *consumers.Event) bool { return !slices.Contains(c.Types, ev.Type) }
}
