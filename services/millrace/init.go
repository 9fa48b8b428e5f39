package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/millrace/scaffold"
	"github.com/millrace/millrace/services/relay"
)

func newInit(a *app) *cobra.Command {
	var from, outbox string
	cfg := scaffold.Config{}
	cmd := &cobra.Command{
		Use:   "init [DIR] --from-table TABLE",
		Short: "Write schemas, a projection and a configuration for a table that is there already",
		Long: `Write the starting point for a table that is there already into a folder:
millrace.yaml with a backfill and two sinks, an Avro schema for a saved and one
for a deleted row, a projection, and the SQL and Go lines that the table's
writers add. It reads the table's columns, and changes nothing in the database.
A file that exists is never overwritten: then nothing is written.

The database is --postgres, else that of --outbox in the configuration, else
$DATABASE_URL. It is not written down: millrace.yaml says ${DATABASE_URL}.

A numeric(p,s) becomes a decimal, a timestamptz a timestamp, an array an array;
what Avro has no type for (interval, jsonb, enums) becomes its text.`,
		Example: `  millrace init shop --from-table orders
  millrace init shop --from-table 'sales."Order"' --postgres postgres://me@localhost/shop --key id
  millrace init shop --from-table orders --kafka localhost:9092 --registry http://localhost:8081 -o json`,
		Args: takes("[DIR]"),
	}
	out := output(cmd)
	flags := cmd.Flags()
	flags.StringVar(&cfg.Table, "from-table", "", "the `TABLE`, as SQL names it")
	flags.StringVar(&from, "postgres", "", "`URL` of the database")
	flags.StringVar(&outbox, "outbox", "", "`NAME` of an outbox of the configuration, whose database has the table")
	flags.StringVar(&cfg.Key, "key", "", "`COLUMN` that tells rows apart (default: the primary key)")
	flags.StringVar(&cfg.Entity, "entity", "", "`NAME` of the entity (default: from the table's)")
	flags.StringVar(&cfg.Outbox, "name", "", "`NAME` of the new outbox (default: from the table's schema)")
	flags.StringVar(&cfg.Kafka, "kafka", "localhost:9092", "`ADDRESS` of a broker")
	flags.StringVar(&cfg.Registry, "registry", "http://localhost:8081", "`URL` of the schema registry")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if cfg.Table == "" {
			return usagef("say which table: --from-table orders")
		}
		if cfg.Dir = "."; len(got) > 0 {
			cfg.Dir = got[0]
		}
		url := cmp.Or(from, os.Getenv("DATABASE_URL"))
		if from == "" && outbox != "" {
			c, err := a.load()
			if err != nil {
				return err
			}
			_, o, err := c.outbox(outbox)
			if err != nil {
				return err
			}
			url = o.Postgres
		}
		if !isConnectionString(url) {
			return usagef("say where the table is: --postgres URL, --outbox NAME, or DATABASE_URL in the environment")
		}
		conn, err := connect(cmd.Context(), &Outbox{Config: relay.Config{Postgres: url}})
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(cmd.Context()))
		did, err := scaffold.Write(cmd.Context(), conn, cfg)
		if err != nil {
			return err
		}
		if *out == "json" {
			return out.print(cmd.OutOrStdout(), did, nil, nil)
		}
		return sayBegun(cmd.OutOrStdout(), cfg.Dir, did)
	}
	return cmd
}

// sayBegun tells what was written, and what comes next.
func sayBegun(w io.Writer, dir string, did scaffold.Result) error {
	var b strings.Builder
	for _, f := range did.Files {
		fmt.Fprintf(&b, "wrote %s\n", clean(f))
	}
	fmt.Fprintf(&b, "\n%s, %s: %s and %s, to topic %s\n\nNext, with DATABASE_URL set:\n\n", clean(did.Table), count(int64(len(did.Columns)), "column", "columns"), did.Saved, did.Deleted, did.Topic)
	if dir != "." {
		fmt.Fprintf(&b, "  cd %s\n", clean(dir))
	}
	fmt.Fprintf(&b, "  millrace migrate up && millrace schema push\n  millrace up                  # the relay and the sinks\n  millrace backfill %s\n\nBefore the last: the lines of %s in every writer of the table.\n", did.Backfill, clean(did.Writers))
	_, err := io.WriteString(w, b.String())
	return err
}
