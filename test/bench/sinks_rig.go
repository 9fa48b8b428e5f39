package bench

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/test/harness"
)

// sinkRig is what all cases of a run share: the relay's servers, and those that sinks write to, which are started when a case needs them.
type sinkRig struct {
	*rig
	opts     SinkOptions
	sold     *saleMaker
	schemaID int
	filled   []saleTopic
	runs     int
	warmed   bool // the broker
	searched bool // OpenSearch was warmed
	redis    *harness.RedisProcess
	search   *harness.OpenSearchProcess
}

// newSinkRig starts the servers. Close it, also after an error.
func newSinkRig(ctx context.Context, o SinkOptions, report *Report) (*sinkRig, error) {
	r := &sinkRig{opts: o}
	var err error
	r.rig, err = newRig(ctx, Options{Binary: o.Binary, Partitions: 4, Progress: o.Progress, Pprof: o.Pprof, PprofFor: o.PprofFor}, report)
	if err != nil {
		return r, err
	}
	if r.sold, err = newSaleMaker(); err != nil {
		return r, err
	}
	schemas, err := registry.New(registry.Config{URL: r.registry.URL})
	if err != nil {
		return r, err
	}
	r.schemaID, err = schemas.Register(ctx, "bench.SaleMade", saleSchema)
	return r, err
}

func (r *sinkRig) close() error {
	if r.search != nil {
		r.search.Close()
	}
	if r.redis != nil {
		r.redis.Close()
	}
	return r.rig.close()
}

// openSearch starts OpenSearch on first use, as on a production machine.
func (r *sinkRig) openSearch() (string, error) {
	if r.search == nil {
		server, err := harness.StartOpenSearch(harness.OpenSearchOptions{Optimised: true, HeapMB: 1024})
		if err != nil {
			return "", err
		}
		r.search = server
		r.report.Versions["opensearch"] = server.Version()
	}
	return r.search.URL, nil
}

// redisURL starts Redis on first use.
func (r *sinkRig) redisURL() (string, error) {
	if r.redis == nil {
		server, err := harness.StartRedis()
		if err != nil {
			return "", err
		}
		r.redis = server
		r.report.Versions["go-redis"] = moduleVersion("github.com/redis/go-redis/v9")
	}
	return r.redis.URL, nil
}

// database makes an empty database and returns its address. What earlier ones have left to be written is written first.
func (r *sinkRig) database(ctx context.Context) (dsn string, drop func(), err error) {
	r.runs++
	name := fmt.Sprintf("warehouse_%d", r.runs)
	for _, s := range []string{"CREATE DATABASE " + name, "CHECKPOINT"} {
		if err := r.sql(ctx, s); err != nil {
			return "", nil, err
		}
	}
	u, err := url.Parse(r.postgres.DSN)
	if err != nil {
		return "", nil, fmt.Errorf("read the server's address: %w", err)
	}
	u.Path = "/" + name
	return u.String(), func() {
		if err := r.sql(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			r.say("%v", err)
		}
	}, nil
}

// holds compares two numbers in a database with what should be in them.
func (r *sinkRig) holds(ctx context.Context, dsn, query string, rows, sum int64) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var got [2]int64
	if err := conn.QueryRow(ctx, query).Scan(&got[0], &got[1]); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return same(got[0], got[1], rows, sum)
}

func same(rows, sum, wantRows, wantSum int64) error {
	if rows == wantRows && sum == wantSum {
		return nil
	}
	return fmt.Errorf("the store holds %d rows whose numbers add up to %d, and not %d that add up to %d", rows, sum, wantRows, wantSum)
}

func (r *sinkRig) brokers() string { return strings.Join(r.kafka.Brokers, ",") }
