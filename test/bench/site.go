package bench

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
)

// site is an outbox of one's own: a database, a topic, and a configuration for relays.
type site struct {
	rig   *rig
	name  string // of the outbox and of the database
	topic string
	dsn   string
	dir   string
	pool  *pgxpool.Pool
}

// poolSize is enough for every case's writers.
const poolSize = 16

// newSite makes a database with an outbox in it. Close it.
func (r *rig) newSite(ctx context.Context, base string) (*site, error) {
	r.sites++
	s := &site{rig: r, name: fmt.Sprintf("%s_%d", base, r.sites)}
	s.topic = "bench." + s.name
	if err := r.sql(ctx, "CREATE DATABASE "+s.name); err != nil {
		return nil, err
	}
	u, err := url.Parse(r.postgres.DSN)
	if err != nil {
		return nil, fmt.Errorf("read the server's address: %w", err)
	}
	u.Path = "/" + s.name
	s.dsn = u.String()
	cfg, err := pgxpool.ParseConfig(s.dsn)
	if err != nil {
		return nil, fmt.Errorf("read the database's address: %w", err)
	}
	cfg.MaxConns = poolSize
	cfg.ConnConfig.RuntimeParams["application_name"] = "bench"
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open database %s: %w", s.name, err)
	}
	if err := s.prepare(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *site) prepare(ctx context.Context) error {
	if _, err := migrate.Up(ctx, s.pool); err != nil {
		return fmt.Errorf("make the outbox: %w", err)
	}
	catalogue, err := schemas.NewCatalogue(s.rig.maker.schema)
	if err != nil {
		return fmt.Errorf("make a catalogue: %w", err)
	}
	if _, err := outbox.Push(ctx, s.pool, catalogue); err != nil {
		return err
	}
	s.dir = filepath.Join(s.rig.dir, s.name)
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	if err := os.WriteFile(s.file(), []byte(s.config()), 0o644); err != nil {
		return fmt.Errorf("write millrace.yaml: %w", err)
	}
	return nil
}

func (s *site) file() string { return filepath.Join(s.dir, "millrace.yaml") }

// config is millrace.yaml: nothing is set but addresses and the number of partitions, unless Options.Set says so.
func (s *site) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kafka: {brokers: [%q]}\nregistry: {url: %q}\n", strings.Join(s.rig.kafka.Brokers, `", "`), s.rig.registry.URL)
	fmt.Fprintf(&b, "outboxes:\n  %s:\n    postgres: %q\n    topic_defaults: {partitions: %d}\n", s.name, s.dsn, s.rig.opts.Partitions)
	for _, line := range s.rig.opts.Set {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	if s.rig.opts.Pprof != "" {
		b.WriteString("http: {pprof: true}\n")
	}
	return b.String()
}

// close removes the database and the topics.
func (s *site) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	s.pool.Close()
	if err := s.rig.sql(ctx, "DROP DATABASE "+s.name+" WITH (FORCE)"); err != nil {
		s.rig.say("%v", err)
	}
	internal := "__millrace." + s.name
	if _, err := s.rig.admin.DeleteTopics(ctx, s.topic, internal+".cursor", internal+".parked"); err != nil {
		s.rig.say("delete the topics of %s: %v", s.name, err)
	}
}

// sql runs a statement on a connection of its own to the server's first database.
func (r *rig) sql(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, r.postgres.DSN)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
