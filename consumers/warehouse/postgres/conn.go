package postgres

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Names of prepared statements. Those of a table end in its entity.
const (
	stBegin      = "millrace_begin"
	stAdvance    = "millrace_advance"
	stQuarantine = "millrace_quarantine"
	stLift       = "millrace_lift"
	stBronze     = "millrace_bronze"
	stCommit     = "millrace_commit"
	stCopy       = "millrace_copy_"
	stUpsert     = "millrace_upsert_"
	stReplace    = "millrace_replace_"
	stLoad       = "millrace_load_"
)

// sessionSettings are those of every connection of ours: the defaults of a role or database are made for others. Plans are forced to
// the index, for statistics taken on an empty table would have a load read all of a full one; and since a forced plan looks dear, the
// compiler of expressions is kept away from it. synchronous_commit is left to the role: position and rows are lost together or
// not at all.
const sessionSettings = `SET client_min_messages = warning; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = postgres;
	SET bytea_output = hex; SET extra_float_digits = 1; SET default_transaction_isolation = 'read committed'; SET search_path = pg_catalog;
	SET statement_timeout = 0; SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '60s'`

const laneSettings = `SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = auto`

// lane is what a connection that writes has made for itself.
type lane struct {
	generation int64
	buf        []byte
}

// parseURL reads the connection string, without repeating any of it in an error.
func parseURL(url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil || url == "" {
		return nil, ErrURL
	}
	for name := range cfg.ConnConfig.RuntimeParams { // what is none of pgx's is one of the server's: or part of a URL without its beginning
		if !parameter.MatchString(name) {
			return nil, ErrURL
		}
	}
	return cfg, nil
}

// parameter is the name of a setting of the server.
var parameter = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// CheckURL returns ErrURL unless url is a connection string. It connects to nothing.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

// openPool makes the pool of connections that write.
func (w *Warehouse) openPool(ctx context.Context) error {
	cfg, err := parseURL(w.cfg.URL)
	if err != nil {
		return err
	}
	cfg.MaxConns, cfg.MinConns = int32(w.cfg.Connections), 0
	cfg.MaxConnLifetime, cfg.MaxConnIdleTime = 0, 5*time.Minute
	w.name(cfg.ConnConfig)
	cfg.AfterConnect = w.prepareLane
	w.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// name says in pg_stat_activity whose connection it is.
func (w *Warehouse) name(cfg *pgx.ConnConfig) {
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "millrace warehouse"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = w.cfg.ConnectTimeout
	}
}

// prepareLane makes a connection ready to write: settings, staging tables, statements.
func (w *Warehouse) prepareLane(ctx context.Context, conn *pgx.Conn) error {
	pg, v := conn.PgConn(), w.current()
	setup := []string{sessionSettings, laneSettings}
	for _, e := range slices.Sorted(maps.Keys(v.tables)) {
		setup = append(setup, v.tables[e].stageStatement(w.space))
	}
	if _, err := pg.Exec(ctx, strings.Join(setup, "; ")).ReadAll(); err != nil {
		return fmt.Errorf("set up a connection: %w", err)
	}
	statements := map[string]string{
		stBegin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", stCommit: "COMMIT", stBronze: copyBronze(w.space),
		stAdvance: "SELECT " + w.space.millrace + ".advance($1, $2, $3, $4, $5, $6, $7, $8)",
		stLift:    `DELETE FROM ` + w.space.millrace + `.quarantine WHERE topic = $1::text AND partition = $2::int AND key = ANY($3::text[])`,
		stQuarantine: `INSERT INTO ` + w.space.millrace + `.quarantine SELECT $1::text, $2::int, u.k, u.o FROM unnest($3::text[], $4::bigint[]) u(k, o)
			WHERE NOT EXISTS (SELECT FROM ` + w.space.millrace + `.quarantine q WHERE q.topic = $1::text AND q.partition = $2::int AND q.key = u.k)`,
	}
	for e, t := range v.tables {
		statements[stCopy+e], statements[stUpsert+e], statements[stLoad+e] = t.copyStatement(), t.upsertStatement(w.space), t.loadStatement(w.space)
		statements[stReplace+e] = t.replaceStatement(w.space)
	}
	p := pg.StartPipeline(ctx)
	for name, sql := range statements {
		p.SendPrepare(name, sql, nil)
	}
	if err := p.Sync(); err != nil {
		return fmt.Errorf("prepare statements: %w", err)
	}
	if err := p.Close(); err != nil {
		return fmt.Errorf("prepare statements: %w", err)
	}
	pg.CustomData()["lane"] = &lane{generation: v.generation, buf: make([]byte, 0, burstBytes+8<<10)}
	return nil
}

func laneOf(pg *pgconn.PgConn) *lane { return pg.CustomData()["lane"].(*lane) }

// acquire takes a connection of the pool. The caller releases it.
func (w *Warehouse) acquire(ctx context.Context) (*pgxpool.Conn, *lane, error) {
	for {
		conn, err := w.pool.Acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		l := laneOf(conn.Conn().PgConn())
		if l.generation == w.current().generation {
			return conn, l, nil
		}
		discard(conn) // made for tables that have changed since
	}
}

// discard closes a connection instead of giving it back.
func discard(conn *pgxpool.Conn) {
	_ = conn.Conn().PgConn().Conn().Close() // without a word: nothing more is to happen on it
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Conn().Close(ctx)
	conn.Release()
}
