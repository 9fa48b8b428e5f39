package demo

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/millrace/millrace/services/devregistry"
	"github.com/millrace/millrace/services/internal/embedded"
)

// world is what the demo runs against: parts of its own, or servers that were named.
type world struct {
	// name is the run's, part of every name on a server that others use too; "" where all parts are the demo's own.
	name     string
	postgres string // a database of the run's own
	brokers  []string
	registry string
	redis    string

	ends []func() error // what is to be ended, in reverse order
}

// part is a line of what was started.
type part struct{ name, what string }

// start brings the parts up one by one and says what each is.
func (w *world) start(ctx context.Context, cfg Config, dir string, say func(part), working func(string)) error {
	for _, step := range []func(context.Context, Config, string, func(part), func(string)) error{w.startPostgres, w.startKafka, w.startRegistry, w.startRedis} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx, cfg, dir, say, working); err != nil {
			return err
		}
	}
	return nil
}

// stop ends what was started, the last first.
func (w *world) stop() error {
	var errs []error
	for i := len(w.ends) - 1; i >= 0; i-- {
		errs = append(errs, w.ends[i]())
	}
	w.ends = nil
	return errors.Join(errs...)
}

func (w *world) atEnd(f func() error) { w.ends = append(w.ends, f) }

// clean removes at the end what the run left on a server that was named, also when the run was stopped.
func (w *world) clean(ctx context.Context, f func(context.Context) error) {
	w.atEnd(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		return f(ctx)
	})
}

func (w *world) startPostgres(ctx context.Context, cfg Config, dir string, say func(part), working func(string)) error {
	if cfg.Postgres != "" {
		return w.namedPostgres(ctx, cfg, say)
	}
	working("starting PostgreSQL")
	p, err := embedded.StartPostgres(ctx, filepath.Join(dir, "postgres"), working)
	if err != nil {
		return err
	}
	w.atEnd(p.Stop)
	w.postgres = p.URL
	say(part{"PostgreSQL", p.From + ", on a port of its own"})
	return nil
}

func (w *world) startKafka(ctx context.Context, cfg Config, _ string, say func(part), _ func(string)) error {
	if cfg.Kafka == "" {
		k, err := embedded.StartKafka()
		if err != nil {
			return err
		}
		w.atEnd(func() error { k.Stop(); return nil })
		w.brokers = k.Brokers
		say(part{"Kafka", "in-process broker (kfake), to try out and not for production"})
		return nil
	}
	return w.namedKafka(ctx, cfg, say)
}

func (w *world) startRegistry(ctx context.Context, cfg Config, _ string, say func(part), _ func(string)) error {
	if cfg.Registry != "" {
		return w.namedRegistry(ctx, cfg, say)
	}
	r, err := devregistry.New(devregistry.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	w.atEnd(func() error { cancel(); return <-done })
	w.registry = r.URL()
	say(part{"Registry", "in-process schema registry, compatibility checked"})
	return nil
}

func (w *world) startRedis(ctx context.Context, cfg Config, _ string, say func(part), _ func(string)) error {
	if cfg.Redis == "" {
		r, err := embedded.StartRedis()
		if err != nil {
			return err
		}
		w.atEnd(func() error { r.Stop(); return nil })
		w.redis = r.URL
		say(part{"Redis", "in-process Redis (miniredis)"})
		return nil
	}
	return w.namedRedis(ctx, cfg, say)
}

// sinkName is the name of a sink: it is part of its consumer group.
func (w *world) sinkName(role string) string {
	if w.name == "" {
		return role
	}
	return w.name + "-" + role
}

// outbox is the name of the outbox.
func (w *world) outbox() string {
	if w.name == "" {
		return "shop"
	}
	return w.name
}

// topicPrefix stands before "orders", "customers" and "products".
func (w *world) topicPrefix() string { return w.outbox() + "." }
