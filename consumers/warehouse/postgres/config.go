package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

var (
	_ fold.Sink         = (*Warehouse)(nil)
	_ fold.Snapshotter  = (*Warehouse)(nil)
	_ fold.EventKeeper  = (*Warehouse)(nil)
	_ fold.Generational = (*Warehouse)(nil)
	_ warehouse.Querier = (*Warehouse)(nil)
)

// Bronze says what is kept of events.
type Bronze = warehouse.Bronze

const (
	// BronzeJSON keeps every event with its fields as JSON beside the payload.
	BronzeJSON = warehouse.BronzeJSON
	// BronzePayload keeps every event without its fields: the payload is the Avro binary.
	BronzePayload = warehouse.BronzePayload
	// BronzeOff keeps no events.
	BronzeOff = warehouse.BronzeOff
)

// Config says where the warehouse is and what it holds.
type Config struct {
	// URL is the connection string, as a URL or as keyword=value. It names the primary, directly or through a pooler in session mode: a
	// connection keeps staging tables and prepared statements. Required.
	URL string
	// Schema stands before the names of the warehouse's schemas: with "shop" they are shop_bronze, shop_bronze_base, shop_silver, shop_silver_base and
	// shop_millrace. Default: bronze, bronze_base, silver, silver_base, millrace.
	Schema string
	// Generation is the number of the build, from 1. Those after the first have schemas of their own (bronze_base_g2, silver_base_g2, millrace_g2); what readers know
	// by name is the same for all, and shows the one that serves. Default 1.
	Generation int
	// Bronze says what is kept of events. Default BronzeJSON.
	Bronze Bronze
	// Projections are the entities with a silver table. Events of topics without one are kept in bronze.
	Projections []fold.Projection
	// Connections is the most connections that write at a time; a lane uses one. Default 8. There is another for DDL, at Open, and
	// one a query.
	Connections int
	// ConnectTimeout bounds the making of a connection, unless the URL has connect_timeout. Default 10 s.
	ConnectTimeout time.Duration
	// CommitTimeout bounds the wait for the outcome of a commit that was sent; the end of the caller's context does not. Default 1 min.
	CommitTimeout time.Duration
	// ClaimPatience is how long a claim waits for a commit of the partition's former owner before it ends that one's connection. Default 5 s.
	ClaimPatience time.Duration
	// ServePatience is how long Serve waits for transactions that began before, and for those that read the views. Default 30 s.
	ServePatience time.Duration
	// MaxQueries is the number of queries of users that run at a time. Default 4.
	MaxQueries int
	// Logger gets start, stop and what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with every unset field filled in.
func (c Config) WithDefaults() Config {
	if c.Bronze == "" {
		c.Bronze = BronzeJSON
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.Connections == 0 {
		c.Connections = 8
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = time.Minute
	}
	if c.ClaimPatience == 0 {
		c.ClaimPatience = 5 * time.Second
	}
	if c.ServePatience == 0 {
		c.ServePatience = 30 * time.Second
	}
	if c.MaxQueries == 0 {
		c.MaxQueries = 4
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// CheckSchema says what is wrong with a Config.Schema.
func CheckSchema(name string) error {
	if name != "" && (!schemaName.MatchString(name) || strings.HasPrefix(name, "pg_")) {
		return fmt.Errorf("%q is not 1 to 40 characters of a-z, 0-9 and '_', the first a letter, and not pg_…", name)
	}
	return nil
}

func (c Config) validate() error {
	if err := CheckURL(c.URL); err != nil {
		return fmt.Errorf("postgres: URL: %w", err)
	}
	if err := CheckSchema(c.Schema); err != nil {
		return fmt.Errorf("postgres: Schema: %w", err)
	}
	if err := warehouse.CheckBronze(c.Bronze); err != nil {
		return fmt.Errorf("postgres: Bronze: %w", err)
	}
	if c.Generation < 0 || c.Connections < 0 || c.MaxQueries < 0 || c.ConnectTimeout < 0 || c.CommitTimeout < 0 || c.ClaimPatience < 0 || c.ServePatience < 0 {
		return errors.New("postgres: Generation, Connections, MaxQueries and the timeouts cannot be negative")
	}
	seen, views := map[string]bool{}, map[string]string{}
	for _, p := range c.Projections {
		name := p.Entity()
		if err := checkName(name); err != nil {
			return fmt.Errorf("postgres: entity: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("postgres: two projections of entity %q", name)
		}
		if other, ok := views[identifier(name)]; ok {
			return fmt.Errorf("postgres: entities %q and %q have the same identifier", name, other)
		}
		seen[name], views[identifier(name)] = true, name
	}
	return nil
}
