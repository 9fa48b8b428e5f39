//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers/fold"
)

// layout is the version of the tables that are the same in every warehouse.
const layout = "2"

var layoutStatements = []string{
	`CREATE SCHEMA IF NOT EXISTS millrace`,
	`CREATE SCHEMA IF NOT EXISTS bronze`,
	`CREATE SCHEMA IF NOT EXISTS silver_base`,
	`CREATE SCHEMA IF NOT EXISTS silver`,
	`CREATE TABLE IF NOT EXISTS millrace.meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS millrace.positions (topic VARCHAR NOT NULL, partition INTEGER NOT NULL, next BIGINT NOT NULL, epoch BIGINT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS millrace.quarantine (topic VARCHAR NOT NULL, partition INTEGER NOT NULL, key VARCHAR NOT NULL, "offset" BIGINT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS millrace.entities (entity VARCHAR NOT NULL, topic VARCHAR NOT NULL, digest VARCHAR NOT NULL, base_table VARCHAR NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT now())`,
	`CREATE TABLE IF NOT EXISTS millrace.left_out (entity VARCHAR NOT NULL, applied HUGEINT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS bronze.events (topic VARCHAR NOT NULL, partition INTEGER NOT NULL, "offset" BIGINT NOT NULL, key VARCHAR, type VARCHAR,
		event_id VARCHAR, seq BIGINT NOT NULL, event_time TIMESTAMP NOT NULL, schema_id INTEGER, headers JSON, data JSON, payload BLOB,
		_headers BLOB)`,
}

// prepareStore makes what is missing and returns the entities' tables. It is one transaction: an Open that fails leaves nothing.
func prepareStore(conn *duckdb.Conn, projections []fold.Projection) (tables map[string]*table, err error) {
	ctx := context.Background()
	if err := execute(ctx, conn, "BEGIN TRANSACTION"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, execute(ctx, conn, "ROLLBACK"))
			return
		}
		err = execute(ctx, conn, "COMMIT")
	}()
	for _, s := range layoutStatements {
		if err := execute(ctx, conn, s); err != nil {
			return nil, err
		}
	}
	if err := checkLayout(ctx, conn); err != nil {
		return nil, err
	}
	tables = map[string]*table{}
	for _, p := range projections {
		if tables[p.Entity()], err = prepareEntity(ctx, conn, p); err != nil {
			return nil, err
		}
	}
	return tables, leaveOut(ctx, conn, tables)
}

// applied is how far the topic of an entity has been applied, over all its partitions.
const applied = `(SELECT coalesce(sum(greatest(p.next, 0)), 0) FROM millrace.positions p WHERE p.topic = e.topic)`

// leaveOut notes how far the topics of entities that are not declared were applied when they were left out: their tables stay as
// they are from here on, while their topics may go on.
func leaveOut(ctx context.Context, conn *duckdb.Conn, declared map[string]*table) error {
	return execute(ctx, conn, `INSERT INTO millrace.left_out SELECT e.entity, `+applied+` FROM millrace.entities e
		WHERE NOT list_contains(?::VARCHAR[], e.entity) AND e.entity NOT IN (SELECT l.entity FROM millrace.left_out l)`,
		slices.Collect(maps.Keys(declared)))
}

// takeBack takes an entity in again that was left out.
//
// Promise 4: a state that missed events is wrong, so it is not gone on from.
func takeBack(ctx context.Context, conn *duckdb.Conn, p fold.Projection) error {
	missed := false
	err := rowsOf(ctx, conn, `SELECT 1 FROM millrace.left_out l JOIN millrace.entities e USING (entity) WHERE l.entity = ? AND l.applied <> `+applied,
		bind(p.Entity()), func([]driver.Value) error {
			missed = true
			return nil
		})
	if err != nil {
		return err
	}
	if missed {
		return fmt.Errorf("entity %s: %w: it was not declared for a while, and events of topic %s have gone by", p.Entity(), ErrRebuild, p.Topic())
	}
	return execute(ctx, conn, `DELETE FROM millrace.left_out WHERE entity = ?`, p.Entity())
}

func checkLayout(ctx context.Context, conn *duckdb.Conn) error {
	found, err := text(ctx, conn, `SELECT value FROM millrace.meta WHERE name = 'layout'`)
	switch {
	case err != nil:
		return err
	case found == "":
		return execute(ctx, conn, `INSERT INTO millrace.meta VALUES ('layout', ?)`, layout)
	case found != layout:
		return fmt.Errorf("the file has layout %s, this program knows %s", found, layout)
	}
	return nil
}

// prepareEntity finds the table of an entity, or makes it as long as none of its topic's events have gone by.
func prepareEntity(ctx context.Context, conn *duckdb.Conn, p fold.Projection) (*table, error) {
	stored := []string{"", ""}
	err := rowsOf(ctx, conn, `SELECT digest, base_table FROM millrace.entities WHERE entity = ?`, bind(p.Entity()), func(row []driver.Value) error {
		stored[0], stored[1] = row[0].(string), row[1].(string)
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch stored[0] {
	case p.Digest():
		if err := takeBack(ctx, conn, p); err != nil {
			return nil, err
		}
		return newTable(p, stored[1])
	case "":
		return makeEntity(ctx, conn, p)
	}
	refused := fmt.Errorf("entity %s: %w: its declaration has changed (digest %.12s, in the file %.12s)", p.Entity(), ErrRebuild, p.Digest(), stored[0])
	return makeAnew(ctx, conn, p, stored[1], refused)
}

// makeAnew makes the table of an entity whose declaration has changed before anything was applied; refused is the error about one of which something was.
func makeAnew(ctx context.Context, conn *duckdb.Conn, p fold.Projection, base string, refused error) (*table, error) {
	used := false
	err := rowsOf(ctx, conn, `SELECT 1 FROM millrace.positions WHERE next > 0 LIMIT 1`, nil, func([]driver.Value) error {
		used = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	if used {
		return nil, refused
	}
	for _, s := range []string{"DROP VIEW IF EXISTS silver." + quote(p.Entity()), "DROP TABLE IF EXISTS silver_base." + quote(base)} {
		if err := execute(ctx, conn, s); err != nil {
			return nil, err
		}
	}
	if err := execute(ctx, conn, `DELETE FROM millrace.entities WHERE entity = ?`, p.Entity()); err != nil {
		return nil, err
	}
	return makeEntity(ctx, conn, p)
}

func makeEntity(ctx context.Context, conn *duckdb.Conn, p fold.Projection) (*table, error) {
	gone := false
	err := rowsOf(ctx, conn, `SELECT 1 FROM millrace.positions WHERE topic = ? AND next > 0 LIMIT 1`, bind(p.Topic()), func([]driver.Value) error {
		gone = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	if gone {
		return nil, fmt.Errorf("entity %s: %w: it is new, and events of topic %s have gone by", p.Entity(), ErrRebuild, p.Topic())
	}
	t, err := newTable(p, p.Entity()+"_"+clean(p.Digest()))
	if err != nil {
		return nil, err
	}
	for _, s := range []string{t.create(), t.createView()} {
		if err := execute(ctx, conn, s); err != nil {
			return nil, fmt.Errorf("entity %s: %w", p.Entity(), err)
		}
	}
	return t, execute(ctx, conn, `INSERT INTO millrace.entities (entity, topic, digest, base_table) VALUES (?, ?, ?, ?)`, p.Entity(), p.Topic(), p.Digest(), t.name)
}

// clean makes the beginning of a digest fit for a name.
func clean(digest string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(digest))
	return name[:min(len(name), 12)]
}

// text runs a query for one text; empty if there is no row.
func text(ctx context.Context, conn *duckdb.Conn, query string, args ...any) (string, error) {
	out := ""
	err := rowsOf(ctx, conn, query, bind(args...), func(row []driver.Value) error {
		out, _ = row[0].(string)
		return nil
	})
	return out, err
}

// quote writes a name for SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
