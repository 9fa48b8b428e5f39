package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/millrace/demo"
	"github.com/millrace/millrace/services/sink"
)

func newDemo(*app) *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine, with nothing to set up, and prove it",
		Long: `Show the main job on this machine, with nothing to set up.

An example shop writes business rows and events in one transaction. The relay
publishes them to Kafka, and a warehouse, a search index and a cache follow. In
mid-run the relay is killed with SIGKILL and started again. Then the warehouse,
the index and the cache answer, and everything is compared with what the shop
committed. Exit status 1 if that is not equal.

PostgreSQL is real: a local installation, or one that is fetched. The Kafka
broker, the schema registry and Redis are in-process parts for trying out; name
real ones with the flags below. What the demo puts there has a name of its own
and is removed at the end, unless --keep is given.`,
		Example: `  millrace demo
  millrace demo --events 100000 --rate -1
  millrace demo --keep ./out
  millrace demo --postgres postgres://me@localhost/postgres --kafka localhost:9092 \
    --registry http://localhost:8081 --redis redis://localhost:6379`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := (sink.Config{Kind: "duckdb"}).Available(); err != nil {
				return fmt.Errorf("the demo has a warehouse: %w", err)
			}
			if !cmd.Flags().Changed("events") {
				cfg.Events = 0 // and so bounded in time
			}
			cfg.Out, cfg.Terminal = cmd.OutOrStdout(), isTerminal(cmd.OutOrStdout())
			return demo.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().Int64Var(&cfg.Events, "events", demo.DefaultEvents, "how many events the shop writes; by default fewer on a busy machine")
	cmd.Flags().Float64Var(&cfg.Rate, "rate", 1000, "events a second; negative: as fast as it goes")
	cmd.Flags().StringVar(&cfg.Keep, "keep", "", "`DIR` for configuration, data and logs, kept for a look (default: a temporary one)")
	cmd.Flags().StringVar(&cfg.Postgres, "postgres", "", "`URL` of a PostgreSQL server to use, with the right to create a database")
	cmd.Flags().StringVar(&cfg.Kafka, "kafka", "", "`HOST:PORT,...` of Kafka brokers to use")
	cmd.Flags().StringVar(&cfg.Registry, "registry", "", "`URL` of a Confluent-compatible schema registry to use")
	cmd.Flags().StringVar(&cfg.Redis, "redis", "", "`URL` of a Redis to use")
	cmd.Flags().Uint64Var(&cfg.Seed, "seed", 1, "makes two runs alike, as far as concurrency lets them")
	return cmd
}
