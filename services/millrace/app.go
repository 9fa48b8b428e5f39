package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/term"
)

// app is what every subcommand shares: the global flags and what is made of them.
type app struct {
	path      string
	logLevel  string
	logFormat string
	logger    *slog.Logger
}

// check prepares the logger before any subcommand runs.
func (a *app) check(cmd *cobra.Command, _ []string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usagef("--log-level %q is none of debug, info, warn, error", a.logLevel)
	}
	switch a.logFormat {
	case "text":
		a.logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level, ReplaceAttr: explainAttr}))
	case "json":
		a.logger = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level, ReplaceAttr: explainAttr}))
	default:
		return usagef("--log-format %q is none of text, json", a.logFormat)
	}
	redis.SetLogger(quietRedis{a.logger})
	return nil
}

// quietRedis takes what the Redis client would print for every attempt; who uses it tells of an outage once.
type quietRedis struct{ logger *slog.Logger }

func (q quietRedis) Printf(ctx context.Context, format string, args ...any) {
	q.logger.DebugContext(ctx, "redis client", "detail", fmt.Sprintf(format, args...))
}

// file is the path of the configuration.
func (a *app) file() string {
	return cmp.Or(a.path, os.Getenv("MILLRACE_CONFIG"), defaultConfig)
}

// defaultConfig is read where nothing else is named.
const defaultConfig = "millrace.yaml"

// connectTimeout bounds the connection to a database for a person who waits for it.
const connectTimeout = 15 * time.Second

// connect opens one Postgres connection to an outbox's database.
func connect(ctx context.Context, o *Outbox) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, o.Postgres)
	if err != nil {
		return nil, fmt.Errorf("connect to its database: %w", err)
	}
	return conn, nil
}

// admin opens a Kafka admin client; the caller closes it.
func (c *Config) admin() (*kadm.Client, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	return kadm.NewClient(cl), nil
}

// isTerminal says whether w is a terminal a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
