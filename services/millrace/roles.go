package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/internal/ops"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// runner is one role: something that runs until it is stopped, and that an operator can look at.
type runner interface {
	Run(context.Context) error
	Ready() error
	Status() any
}

// relayRole is a relay as a runner.
type relayRole struct{ *relay.Relay }

func (r relayRole) Status() any { return r.Relay.Status() }

// roles is what one process runs.
type roles struct {
	config *Config
	server *ops.Server
	group  *ops.Group
	logger *slog.Logger

	mu sync.Mutex // guards the following
	// alive counts the roles that have not failed; first is the error of the first that did.
	alive int
	first error
}

// serve runs the roles that add gives it until the command is told to stop or one of them fails.
func (a *app) serve(cmd *cobra.Command, listen string, add func(*roles) error) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if listen != "" {
		c.HTTP.Listen = listen
	}
	server, err := ops.Listen(c.HTTP.Listen, a.logger)
	if err != nil {
		return err
	}
	r := &roles{config: c, server: server, group: ops.NewGroup(cmd.Context()), logger: a.logger}
	r.group.Go("http", server.Run)
	if err := add(r); err != nil {
		r.group.Go("setup", func(context.Context) error { return err })
		_ = r.group.Wait()
		return err
	}
	for _, note := range c.notes() {
		a.logger.Warn(note)
	}
	a.logger.Info("started", "version", version, "http", server.Addr())
	err = r.group.Wait()
	if err == nil {
		err = r.first
	}
	a.logger.Info("stopped")
	return err
}

// run runs a role. One that fails is shown as such and leaves the others alone: a full disk below the warehouse is no reason to
// stop publishing. The process ends when none is left.
func (r *roles) run(name string, role runner) {
	r.mu.Lock()
	r.alive++
	r.mu.Unlock()
	r.server.Add(ops.Role{Name: name, Ready: role.Ready, Status: role.Status})
	r.group.Go(name, func(ctx context.Context) error {
		err := role.Run(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first, left := r.failed(err); left == 0 {
			return first
		}
		r.logger.Error("stopped; the other roles go on", "role", name, "err", err)
		r.server.Add(ops.Role{Name: name, Ready: func() error { return err }, Status: role.Status})
		<-ctx.Done()
		return ctx.Err()
	})
}

// failed counts a role out and returns the first error of all and how many roles are left.
func (r *roles) failed(err error) (first error, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive--
	if r.first == nil {
		r.first = err
	}
	return r.first, r.alive
}

func (a *app) addRelay(r *roles, name string) error {
	opts, err := r.config.Kafka.options()
	if err != nil {
		return err
	}
	registry, err := r.config.registry()
	if err != nil {
		return err
	}
	cfg := r.config.Outboxes[name].Config
	cfg.Kafka, cfg.Registry, cfg.Logger, cfg.Metrics = opts, registry, a.logger.With("outbox", name), r.server.Metrics
	one, err := relay.New(cfg)
	if err != nil {
		return r.config.file.Errorf("outboxes."+name, "%v", err)
	}
	r.run("relay "+name, relayRole{one})
	return nil
}

func (a *app) addSinks(r *roles, names []string) error {
	catalogue, projections, err := r.config.declarations()
	if err != nil {
		return err
	}
	opts, err := r.config.Kafka.options()
	if err != nil {
		return err
	}
	registry, err := r.config.registry()
	if err != nil {
		return err
	}
	parts := sink.Parts{Kafka: opts, Registry: registry, Catalogue: catalogue, Projections: projections, Metrics: r.server.Metrics}
	for _, name := range names {
		cfg := r.config.Sinks[name]
		if cfg == nil {
			return r.config.file.Errorf("sinks", "has no %q (it has %q)", name, sorted(r.config.Sinks))
		}
		parts.Logger = a.logger.With("sink", name)
		one, err := sink.New(*cfg, parts)
		if err != nil {
			return fmt.Errorf("sink %s: %w", name, err)
		}
		if h := one.Handler(); h != nil {
			r.server.Handle("/v1/sinks/"+name+"/"+one.Path(), at("/v1/"+one.Path(), h))
		}
		r.run("sink "+name, one)
	}
	return nil
}

// at gives a handler the path it expects.
func at(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = path
		h.ServeHTTP(w, r)
	})
}

func newRelay(a *app) *cobra.Command {
	var only, listen string
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Publish the outboxes to Kafka; start a second one anywhere as a standby",
		Long: `Publish the outboxes to Kafka, in order and exactly once. Of several relays of one outbox one publishes and the others
stand by; a standby takes over within seconds when the leader is gone.`,
		Example: "  millrace relay\n  millrace relay --outbox shop --listen 127.0.0.1:8090",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.serve(cmd, listen, func(r *roles) error {
				names := sorted(r.config.Outboxes)
				if only != "" {
					name, _, err := r.config.outbox(only)
					if err != nil {
						return err
					}
					names = []string{name}
				}
				return a.addRelays(r, names)
			})
		},
	}
	cmd.Flags().StringVar(&only, "outbox", "", "only this outbox (default: all)")
	listenFlag(cmd, &listen)
	return cmd
}

func (a *app) addRelays(r *roles, names []string) error {
	if len(names) == 0 {
		return r.config.file.Errorf("outboxes", "names no outbox")
	}
	for _, name := range names {
		if err := a.addRelay(r, name); err != nil {
			return err
		}
	}
	return nil
}

func newSink(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "sink NAME...",
		Short: "Run one sink, or several, each a consumer group of its own",
		Long: `Run one sink, or several, each a consumer group of its own. A sink on a server may run in many processes, which share its
partitions; an embedded one (duckdb, bleve) belongs to one process, which also answers "millrace sql" and "millrace search".`,
		Example: "  millrace sink warehouse\n  millrace sink search cache --listen 127.0.0.1:8090",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.serve(cmd, listen, func(r *roles) error { return a.addSinks(r, names) })
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
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.serve(cmd, listen, func(r *roles) error {
				if len(r.config.Outboxes)+len(r.config.Sinks) == 0 {
					return r.config.file.Errorf("outboxes", "is missing, and so is sinks: there is nothing to run")
				}
				if err := a.addSinks(r, sorted(r.config.Sinks)); err != nil {
					return err
				}
				for _, name := range sorted(r.config.Outboxes) {
					if err := a.addRelay(r, name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	listenFlag(cmd, &listen)
	return cmd
}

func listenFlag(cmd *cobra.Command, listen *string) {
	cmd.Flags().StringVar(listen, "listen", "", "host:port for metrics, health, status, SQL and search (default: http.listen of the configuration)")
}

// ago is how old something is, for a person.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t).Round(time.Millisecond)
	if d > time.Second {
		d = d.Round(100 * time.Millisecond)
	}
	return strings.TrimSpace(d.String())
}
