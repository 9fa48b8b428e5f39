package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/bench/measure"
	"github.com/millrace/millrace/test/bench/peer"
	"github.com/millrace/millrace/test/harness"
)

const (
	killEvents  = 300_000 // at most: what is sent again does not depend on it
	brokerHeap  = 1024    // MiB; more than tests need, so that the broker's collector is no bottleneck
	lowestLabel = "lowest"
)

// measure starts the servers and runs the cases. The report holds what was measured until an error.
func (p plan) measure(ctx context.Context, progress func(string)) (*Report, error) {
	progress("fetching Debezium from Maven Central, unless the cache has it")
	if _, err := harness.Debezium(); err != nil {
		return nil, err
	}
	progress("starting PostgreSQL and Kafka")
	postgres, err := harness.StartPostgres(harness.PostgresOptions{Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		return nil, err
	}
	defer postgres.Close()
	kafka, err := harness.StartKafka(harness.KafkaOptions{HeapMB: brokerHeap})
	if err != nil {
		return nil, err
	}
	defer kafka.Close()
	dir, err := harness.WorkDir("peer")
	if err != nil {
		return nil, err
	}
	r := &Report{Machine: measure.ThisMachine(), Commit: measure.Commit(), Settings: map[string]map[string]string{}}
	if err := r.versions(ctx, postgres.DSN); err != nil {
		return nil, err
	}
	base := peer.Options{Kafka: kafka.Brokers[0], Postgres: postgres.DSN, Dir: dir, N: p.events, Transaction: p.rows, Duration: p.duration}
	return r, p.repeat(ctx, r, base, progress)
}

// repeat runs all cases of a repetition before the next one, so that a busy moment of the machine spoils one value of each.
func (p plan) repeat(ctx context.Context, r *Report, base peer.Options, progress func(string)) error {
	for rep := range p.reps {
		say := func(line string) { progress(fmt.Sprintf("[%d/%d] %s", rep+1, p.reps, line)) }
		for _, tuned := range []bool{false, true} {
			o := base
			o.Tuned = tuned
			if err := p.once(ctx, r, o, say); err != nil {
				return err
			}
		}
		o := base
		o.Tuned, o.Extra, o.Label = true, peer.LowestLatency, lowestLabel
		if err := p.latencies(ctx, r, o, say); err != nil {
			return err
		}
	}
	return nil
}

func (p plan) once(ctx context.Context, r *Report, o peer.Options, say func(string)) error {
	if slices.Contains(p.cases, "drain") {
		result, err := peer.Drain(ctx, o, say)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		r.Drain = append(r.Drain, result)
		r.remember(result.Setting, o)
	}
	if err := p.latencies(ctx, r, o, say); err != nil {
		return err
	}
	if slices.Contains(p.cases, "kill") {
		o.N = min(o.N, killEvents)
		result, err := peer.Kill(ctx, o, say)
		if err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		r.Kill = append(r.Kill, result)
		r.remember(result.Setting, o)
	}
	return nil
}

func (p plan) latencies(ctx context.Context, r *Report, o peer.Options, say func(string)) error {
	if !slices.Contains(p.cases, "latency") {
		return nil
	}
	for _, rate := range p.rates {
		o.Rate = rate
		result, err := peer.Latency(ctx, o, say)
		if err != nil {
			return fmt.Errorf("latency at %d events/s: %w", rate, err)
		}
		r.Latency = append(r.Latency, result)
		r.remember(result.Setting, o)
	}
	return nil
}

// versions are of what is measured and what it is measured with.
func (r *Report) versions(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	r.Versions = map[string]string{"debezium": peer.DebeziumVersion, "connect": peer.ConnectVersion, "kafka": peer.ConnectVersion, "postgres": version}
	return nil
}
