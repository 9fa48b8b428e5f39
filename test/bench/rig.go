package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// rig is what all cases of a run share: servers of its own, and clients of them.
type rig struct {
	opts   Options
	out    io.Writer // progress
	report *Report
	maker  *maker
	dir    string
	binary string

	postgres *harness.PostgresProcess
	kafka    *harness.KafkaProcess
	registry *harness.RegistryProcess
	client   *kgo.Client
	admin    *kadm.Client
	sites    int
	warm     bool
	// sample are records as the relay publishes them, for the produce ceiling.
	sample []sampled
}

// newRig starts the servers. Close it, also after an error.
func newRig(ctx context.Context, o Options, report *Report) (r *rig, err error) {
	r = &rig{opts: o, out: o.Progress, report: report}
	if r.maker, err = newMaker(); err != nil {
		return r, err
	}
	if r.dir, err = os.MkdirTemp("", "millrace-bench-"); err != nil {
		return r, fmt.Errorf("make a working folder: %w", err)
	}
	if r.binary = o.Binary; r.binary == "" {
		tell := r.progress(func() string { return "building millrace" })
		r.binary, err = harness.BuiltBinary()
		tell()
		if err != nil {
			return r, err
		}
	}
	if r.binary, err = filepath.Abs(r.binary); err != nil {
		return r, fmt.Errorf("find the millrace binary: %w", err)
	}
	return r, r.start(ctx)
}

func (r *rig) start(ctx context.Context) error {
	tell := r.progress(func() string { return "starting PostgreSQL, Kafka and the registry" })
	defer tell()
	began := time.Now()
	var err error
	if r.postgres, err = harness.StartPostgres(r.postgresOptions()); err != nil {
		return err
	}
	if r.kafka, err = harness.StartKafka(harness.KafkaOptions{AsShipped: true}); err != nil {
		return err
	}
	if r.registry, err = harness.StartRegistry(); err != nil {
		return err
	}
	if r.client, err = kgo.NewClient(r.seeds()...); err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	r.admin = kadm.NewClient(r.client)
	r.say("servers started in %.1f s", time.Since(began).Seconds())
	return r.versions(ctx)
}

// postgresOptions are the harness's, but for what Debezium needs.
func (r *rig) postgresOptions() harness.PostgresOptions {
	if !r.opts.Peer {
		return harness.PostgresOptions{}
	}
	return harness.PostgresOptions{Settings: map[string]string{"wal_level": "logical"}}
}

func (r *rig) seeds() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(r.kafka.Brokers...), kgo.MetadataMinAge(100 * time.Millisecond)}
}

// versions are of what is measured and what it is measured with.
func (r *rig) versions(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.postgres.DSN)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	r.report.Versions = map[string]string{"postgres": version}
	r.report.Versions["kafka"] = r.kafka.Version()
	r.report.Versions["registry"] = r.registry.Version()
	r.report.Versions["franz-go"] = moduleVersion("github.com/twmb/franz-go")
	r.report.Versions["pgx"] = moduleVersion("github.com/jackc/pgx/v5")
	return nil
}

// close stops the servers and removes what the run has left.
func (r *rig) close() error {
	if r.client != nil {
		r.client.Close()
	}
	if r.registry != nil {
		r.registry.Close()
	}
	if r.kafka != nil {
		r.kafka.Close()
	}
	if r.postgres != nil {
		r.postgres.Close()
	}
	harness.Cleanup()
	if r.dir == "" {
		return nil
	}
	return os.RemoveAll(r.dir)
}

// say prints a line of progress.
func (r *rig) say(format string, args ...any) {
	fmt.Fprintf(r.out, "  "+format+"\n", args...)
}

// progress says every two seconds how far something has come, until the function it returns is called.
func (r *rig) progress(line func() string) (done func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		every := time.NewTicker(2 * time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				r.say("%s", line())
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}
