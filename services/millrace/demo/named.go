package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/schemas/registry"
)

const (
	lookTimeout  = 10 * time.Second // how long a server that was named may take to answer
	cleanTimeout = 30 * time.Second // how long the removal of what the run left on it may take
)

// namedPostgres makes a database for the run on a server that was named, and drops it at the end.
func (w *world) namedPostgres(ctx context.Context, cfg Config, say func(part)) error {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	conn, err := pgx.Connect(look, cfg.Postgres)
	if err != nil {
		return fmt.Errorf("--postgres: %w", err)
	}
	defer conn.Close(ctx)
	name := strings.ReplaceAll(w.name, "-", "_")
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("--postgres: create a database for the demo: %w", err)
	}
	u, err := databaseURL(cfg.Postgres, name)
	if err != nil {
		return err
	}
	w.postgres = u
	say(part{"PostgreSQL", "the server you named, in database " + name})
	if cfg.Keep != "" {
		return nil
	}
	w.clean(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, cfg.Postgres)
		if err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)")
		return err
	})
	return nil
}

// databaseURL is a connection string with another database.
func databaseURL(dsn, database string) (string, error) {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		u.Path = "/" + database
		return u.String(), nil
	}
	return dsn + " dbname=" + database, nil
}

func (w *world) namedKafka(ctx context.Context, cfg Config, say func(part)) error {
	w.brokers = strings.Split(cfg.Kafka, ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		return fmt.Errorf("--kafka: %w", err)
	}
	defer cl.Close()
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := cl.Ping(look); err != nil {
		return fmt.Errorf("--kafka: no broker answers at %s: %w", cfg.Kafka, err)
	}
	say(part{"Kafka", "the brokers you named, " + cfg.Kafka})
	if cfg.Keep == "" {
		w.clean(ctx, w.deleteTopics)
	}
	return nil
}

// deleteTopics removes what the run left on a real broker.
func (w *world) deleteTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list the demo's topics: %w", err)
	}
	var mine []string
	for _, t := range topics.Names() {
		if strings.HasPrefix(t, w.name) || strings.HasPrefix(t, "__millrace."+w.name) {
			mine = append(mine, t)
		}
	}
	deleted, err := adm.DeleteTopics(ctx, mine...)
	if err = errors.Join(err, deleted.Error()); err != nil {
		err = fmt.Errorf("delete the demo's topics: %w", err)
	}
	var groups []string
	for _, role := range roles {
		groups = append(groups, rebuild.Group(w.sinkName(role), 1), rebuild.ElectionGroup(w.sinkName(role)))
	}
	gone, err2 := adm.DeleteGroups(ctx, groups...)
	for _, g := range gone {
		if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
			err2 = errors.Join(err2, fmt.Errorf("delete group %s: %w", g.Group, g.Err))
		}
	}
	return errors.Join(err, err2)
}

func (w *world) namedRegistry(ctx context.Context, cfg Config, say func(part)) error {
	w.registry = cfg.Registry
	r, err := registry.New(registry.Config{URL: cfg.Registry})
	if err != nil {
		return fmt.Errorf("--registry: %w", err)
	}
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := r.Ping(look); err != nil {
		return fmt.Errorf("--registry: no registry answers: %w", err)
	}
	say(part{"Registry", "the schema registry you named"})
	if cfg.Keep == "" {
		w.clean(ctx, func(ctx context.Context) error { return w.deleteSubjects(ctx, r) })
	}
	return nil
}

// deleteSubjects removes the subjects of the run's topics. A registry deletes softly first, and for good when asked again.
func (w *world) deleteSubjects(ctx context.Context, r *registry.Client) error {
	subjects, err := r.Subjects(ctx)
	if err != nil {
		return fmt.Errorf("list the demo's subjects: %w", err)
	}
	for _, s := range subjects {
		if !strings.HasPrefix(s, w.name) {
			continue
		}
		for _, how := range []string{"", "?permanent=true"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodDelete, strings.TrimSuffix(w.registry, "/")+"/subjects/"+url.PathEscape(s)+how, nil)
			if err != nil {
				return errors.New("delete the demo's subjects: the registry's URL cannot be used")
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("delete subject %s: %w", s, err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound { // some know no soft deletion
				return fmt.Errorf("delete subject %s: the registry answered %s", s, resp.Status)
			}
		}
	}
	return nil
}

func (w *world) namedRedis(ctx context.Context, cfg Config, say func(part)) error {
	w.redis = cfg.Redis
	opts, err := redis.ParseURL(cfg.Redis)
	if err != nil {
		return errors.New("--redis: not a URL of the form redis://[user:password@]host:port/db")
	}
	cl := redis.NewClient(opts)
	defer cl.Close()
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := cl.Ping(look).Err(); err != nil {
		return fmt.Errorf("--redis: no server answers: %w", err)
	}
	say(part{"Redis", "the server you named"})
	if cfg.Keep == "" {
		w.clean(ctx, func(ctx context.Context) error { return w.deleteKeys(ctx, opts) })
	}
	return nil
}

// deleteKeys removes what the run left on a real Redis.
func (w *world) deleteKeys(ctx context.Context, opts *redis.Options) error {
	cl := redis.NewClient(opts)
	defer cl.Close()
	it := cl.Scan(ctx, 0, "*"+w.name+"*", 1000).Iterator()
	for it.Next(ctx) {
		if err := cl.Unlink(ctx, it.Val()).Err(); err != nil {
			return err
		}
	}
	return it.Err()
}
