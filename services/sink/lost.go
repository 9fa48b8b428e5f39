package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/consumers/search/bleve"
	"github.com/millrace/millrace/consumers/search/opensearch"
	"github.com/millrace/millrace/consumers/warehouse/duckdb"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
)

// lost asks the store which generation serves, where no record of generations says it.
func (s *Sink) lost(ctx context.Context) (int, error) {
	return s.cfg.lost(ctx)
}

func (c Config) lost(ctx context.Context) (int, error) {
	ask := kinds[c.Kind].serving
	if ask == nil {
		return 0, nil
	}
	n, err := ask(ctx, c)
	if errors.Is(err, duckdb.ErrSeveral) {
		return 0, consumers.AsSystemic(fmt.Errorf("the record of generations (topic %s) is gone, and nobody knows which of these serves: move away the one that does not, and start again: %w",
			rebuild.Topic(c.Name), err))
	}
	return n, err
}

func servingDuckDB(_ context.Context, cfg Config) (int, error) {
	return duckdb.ServingGeneration(cfg.Path)
}

func servingBleve(_ context.Context, cfg Config) (int, error) {
	return bleve.ServingGeneration(cfg.Path)
}

func servingPostgres(ctx context.Context, cfg Config) (int, error) {
	return postgres.ServingGeneration(ctx, postgres.Config{URL: cfg.URL, Schema: cfg.Schema})
}

func servingRedis(ctx context.Context, cfg Config) (int, error) {
	return redis.ServingGeneration(ctx, cfg.URL, cfg.Prefix)
}

func servingOpenSearch(ctx context.Context, cfg Config) (int, error) {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return 0, consumers.AsSystemic(fmt.Errorf("ask the search indices which generation serves: tls: %w", err))
	}
	return opensearch.ServingGeneration(ctx, opensearch.Config{URL: cfg.URL, Username: cfg.Username, Password: cfg.Password, TLS: secure, Prefix: cfg.IndexPrefix})
}

func removeDuckDB(_ context.Context, cfg Config, generation int, _ []string) error {
	return duckdb.RemoveGeneration(cfg.Path, generation)
}

func removeBleve(_ context.Context, cfg Config, generation int, _ []string) error {
	return bleve.RemoveGeneration(cfg.Path, generation)
}

func removePostgres(ctx context.Context, cfg Config, generation int, _ []string) error {
	return postgres.RemoveGeneration(ctx, postgres.Config{URL: cfg.URL, Schema: cfg.Schema, Generation: generation})
}

func removeRedis(ctx context.Context, cfg Config, generation int, _ []string) error {
	return redis.RemoveGeneration(ctx, cfg.URL, cfg.Prefix, generation)
}

func removeOpenSearch(ctx context.Context, cfg Config, generation int, entities []string) error {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return consumers.AsSystemic(fmt.Errorf("remove search indices: tls: %w", err))
	}
	return opensearch.RemoveGeneration(ctx, opensearch.Config{URL: cfg.URL, Username: cfg.Username, Password: cfg.Password, TLS: secure, Prefix: cfg.IndexPrefix, Generation: generation}, entities)
}
