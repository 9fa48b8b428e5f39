package main

import (
	"slices"

	"github.com/spf13/cobra"
)

func newSink(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "sink NAME...",
		Short: "Run one sink, or several, each a consumer group of its own",
		Long: `Run one sink, or several, each a consumer group of its own. A sink on a server
may run in many processes, which share its partitions; an embedded one (duckdb,
bleve) belongs to one process, which also answers "millrace sql" and "millrace
search".`,
		Example: "  millrace sink warehouse\n  millrace sink search cache --listen 127.0.0.1:8090",
		Args:    takes("NAME..."),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.serve(cmd, listen, func(c *Config) (choice, error) {
				for i, name := range names {
					switch {
					case c.Sinks[name] == nil:
						return choice{}, c.file.Errorf("sinks", "has no %q (it has %q)", name, sorted(c.Sinks))
					case slices.Contains(names[:i], name):
						return choice{}, usagef("sink %s is named twice", name)
					}
				}
				return choice{sinks: names}, nil
			})
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			c, err := a.load()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return sorted(c.Sinks), cobra.ShellCompDirectiveNoFileComp
		},
	}
	listenFlag(cmd, &listen)
	return cmd
}

func newUp(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run every role of the configuration in one process: all relays and all sinks",
		Example: `  millrace up
  millrace up --listen 127.0.0.1:8090`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.serve(cmd, listen, func(c *Config) (choice, error) {
				if len(c.Outboxes)+len(c.Sinks) == 0 {
					return choice{}, c.file.Errorf("outboxes", "is missing, and so is sinks: there is nothing to run")
				}
				return choice{outboxes: sorted(c.Outboxes), sinks: sorted(c.Sinks)}, nil
			})
		},
	}
	listenFlag(cmd, &listen)
	return cmd
}

func listenFlag(cmd *cobra.Command, listen *string) {
	cmd.Flags().StringVar(listen, "listen", "", "`HOST:PORT` for metrics, health, status, SQL and search (default: http.listen)")
}
