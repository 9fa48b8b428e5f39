package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/registry"
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
type relayRole struct {
	*relay.Relay
	at where
}

// Note says that the outbox is paused: that is wanted, and so the relay is ready; or that it stands by, or what else a person may want to
// know of one that works.
func (r relayRole) Note() string {
	s := r.Relay.Status()
	p := s.Paused
	switch {
	case p == nil && s.State == relay.StateStandby:
		return "stands by"
	case p == nil && s.Retention.Delayed != "":
		return oneLine(errors.New("rows stay longer than configured: " + s.Retention.Delayed))
	case p == nil:
		return ""
	}
	return strings.TrimPrefix(pauseText(p.By, p.Since, clean(p.Reason)), "is ")
}

func (r relayRole) Status() any {
	s := r.Relay.Status()
	if err := r.Relay.Ready(); err != nil && s.Reason != "" {
		s.Reason = oneLine(r.at.explain(err))
	}
	return s
}

// named is a role with the name under which it is shown.
type named struct {
	name string
	runner
	at where
}

// choice says which roles a command runs.
type choice struct{ outboxes, sinks []string }

// serve runs the roles that pick chooses until the command is told to stop or none of them is left. What can be said to be wrong
// without a server is said before the first role starts.
func (a *app) serve(cmd *cobra.Command, listen string, pick func(*Config) (choice, error)) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if listen != "" {
		c.HTTP.Listen = listen
	}
	chosen, err := pick(c)
	if err != nil {
		return err
	}
	server, err := ops.Listen(c.HTTP.Listen, a.logger)
	if err != nil {
		return err
	}
	if c.HTTP.Pprof {
		if err := server.ServePprof(); err != nil {
			return errors.Join(c.file.Errorf("http.pprof", "%v", err), server.Close())
		}
	}
	var flush func()
	if c.tracer, flush, err = c.Tracing.tracer(cmd.Context(), a.logger); err != nil {
		return errors.Join(err, server.Close())
	}
	defer flush()
	roles, err := c.roles(chosen, server, a.logger)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	for _, note := range c.notes() {
		a.logger.Warn(note)
	}
	collectEarly(c.onServers(chosen.sinks))
	releaseStart()
	a.logger.Info("started", "version", version, "http", server.Addr())
	err = runAll(cmd.Context(), server, a.logger, roles)
	a.logger.Info("stopped")
	return err
}

// roles makes what was chosen.
func (c *Config) roles(w choice, server *ops.Server, logger *slog.Logger) ([]named, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	registry, err := c.registry()
	if err != nil {
		return nil, err
	}
	var out []named
	for _, name := range w.outboxes {
		cfg := c.Outboxes[name].Config
		cfg.Kafka, cfg.Registry, cfg.Logger, cfg.Metrics = opts, registry, outboxAt(name).logger(logger).With("outbox", name), server.Metrics
		cfg.Tracer = c.tracer
		one, err := relay.New(cfg)
		if err != nil {
			return nil, c.file.Errorf("outboxes."+name, "%v", err)
		}
		out = append(out, named{"relay " + name, relayRole{one, outboxAt(name)}, outboxAt(name)})
	}
	if len(w.sinks) == 0 {
		return out, nil
	}
	sinks, err := c.sinks(w.sinks, opts, registry, server, logger)
	return append(out, sinks...), err
}

func (c *Config) sinks(names []string, opts []kgo.Opt, registry *registry.Client, server *ops.Server, logger *slog.Logger) ([]named, error) {
	catalogue, projections, err := c.declarations()
	if err != nil {
		return nil, err
	}
	parts := sink.Parts{Kafka: opts, Registry: registry, Catalogue: catalogue, Projections: projections, Metrics: server.Metrics, Tracer: c.tracer}
	var out []named
	for _, name := range names {
		parts.Logger = sinkAt(name).logger(logger)
		one, err := sink.New(*c.Sinks[name], parts)
		if err := c.sinkError(name, err); err != nil {
			return nil, err
		}
		if h := one.Handler(); h != nil {
			server.Handle("/v1/sinks/"+name+"/"+one.Path(), at("/v1/"+one.Path(), h))
		}
		if h := one.GoldHandler(); h != nil {
			server.Handle("/v1/sinks/"+name+"/gold", at("/v1/gold", h))
		}
		if h := one.VerifyHandler(); h != nil {
			server.Handle("/v1/sinks/"+name+"/verify", h)
		}
		if h := one.StateHandler(); h != nil {
			server.Handle("/v1/sinks/"+name+"/state", h)
		}
		out = append(out, named{"sink " + name, one, sinkAt(name)})
	}
	return out, nil
}

// at gives a handler the path it expects.
func at(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = path
		h.ServeHTTP(w, r)
	})
}

// crew runs roles beside each other.
type crew struct {
	server *ops.Server
	logger *slog.Logger
	group  *ops.Group

	mu sync.Mutex // guards the following
	// left counts the roles that have not failed; first is the error of the first that did.
	left  int
	first error
}

// runAll runs the roles and the server until ctx ends or no role is left. It returns the error of the first role that failed.
func runAll(ctx context.Context, server *ops.Server, logger *slog.Logger, roles []named) error {
	c := &crew{server: server, logger: logger, group: ops.NewGroup(ctx), left: len(roles)}
	c.group.Go("http", server.Run)
	for _, role := range roles {
		c.run(role)
	}
	err := c.group.Wait()
	if c.first != nil {
		return c.first
	}
	return err
}

// run runs a role. One that fails is shown as such and leaves the others alone: a full disk below the warehouse is no reason to
// stop publishing. The process ends when none is left.
func (c *crew) run(role named) {
	noted, notes := role.runner.(interface{ Note() string })
	role.runner = explainedRunner{role.runner, role.at}
	shown := ops.Role{Name: role.name, Ready: role.Ready, Status: role.Status}
	if notes {
		shown.Note = noted.Note
	}
	c.server.Add(shown)
	c.group.Go(role.name, func(ctx context.Context) error {
		err := role.Run(ctx)
		switch {
		case ctx.Err() != nil:
			return err
		case err == nil:
			err = errors.New("ended by itself")
		}
		left := c.failed(fmt.Errorf("%s: %w", role.name, err))
		c.logger.Error("role stopped", "role", role.name, "left", left, "err", err)
		if left == 0 {
			return err
		}
		c.server.Add(ops.Role{Name: role.name, Ready: func() error { return err }, Status: role.Status})
		<-ctx.Done()
		return ctx.Err()
	})
}

// failed counts a role out and returns how many are left.
func (c *crew) failed(err error) (left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	if c.first == nil {
		c.first = err
	}
	return c.left
}
