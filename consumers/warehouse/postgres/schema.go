package postgres

import (
	"context"
	_ "embed" // layout.sql
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

//go:embed layout.sql
var layoutSQL string

// layoutVersion is the version of the tables that are the same in every warehouse.
const layoutVersion = 2

// minVersion is the oldest server there is support for, as server_version_num.
const minVersion = 140000

// stored is an entity as millrace.entities has it.
type storedEntity struct {
	topic, digest, name string
	shape               shape
}

// prepare looks at the warehouse, and makes what is missing. Commits of other processes go on unless tables have to change.
func (w *Warehouse) prepare(ctx context.Context) (*view, error) {
	conn, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = hangUp(conn) }()
	if err := checkServer(ctx, conn); err != nil {
		return nil, err
	}
	v, missing, err := w.inspect(ctx, conn)
	if err == nil && !missing {
		missing, err = w.leftOut(ctx, conn)
	}
	if err != nil || !missing {
		return v, err
	}
	return w.change(context.WithoutCancel(ctx), conn) // a table that is widened is written anew, which takes as long as it takes
}

func checkServer(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()").Scan(&version, &standby); err != nil {
		return err
	}
	if version < minVersion {
		return consumers.AsSystemic(fmt.Errorf("the server is PostgreSQL %d; 14 or newer is needed", version/10000))
	}
	if standby { // which may be promoted, or the name may come to mean another server
		return errors.New("the server is a standby, which cannot be written to: connect to the primary")
	}
	return nil
}

// inspect reads what there is. missing says that something has to be made or changed; what cannot be changed is ErrRebuild.
func (w *Warehouse) inspect(ctx context.Context, conn *pgx.Conn) (v *view, missing bool, err error) {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", w.space.millrace+".layout").Scan(&exists); err != nil || !exists {
		return nil, true, err
	}
	v = &view{tables: map[string]*table{}}
	var version int
	if err := conn.QueryRow(ctx, "SELECT version, generation FROM "+w.space.millrace+".layout").Scan(&version, &v.generation); err != nil {
		return nil, false, err
	}
	if version != layoutVersion {
		return nil, false, consumers.AsSystemic(fmt.Errorf("the warehouse has layout %d, this program knows %d", version, layoutVersion))
	}
	stored, err := readEntities(ctx, conn, w.space)
	if err != nil {
		return nil, false, err
	}
	for i, p := range w.cfg.Projections {
		s, ok := stored[p.Entity()]
		if !ok || s.digest != p.Digest() {
			missing = true
			continue
		}
		if v.tables[p.Entity()], err = newTable(p, s.name, s.shape, i); err != nil {
			return nil, false, err
		}
	}
	return v, missing, nil
}

func readEntities(ctx context.Context, conn *pgx.Conn, s space) (map[string]storedEntity, error) {
	rows, err := conn.Query(ctx, "SELECT entity, topic, digest, base_table, columns FROM "+s.millrace+".entities")
	if err != nil {
		return nil, err
	}
	out := map[string]storedEntity{}
	var entity string
	var columns []byte
	var e storedEntity
	_, err = pgx.ForEachRow(rows, []any{&entity, &e.topic, &e.digest, &e.name, &columns}, func() error {
		e.shape = shape{}
		if err := json.Unmarshal(columns, &e.shape); err != nil {
			return fmt.Errorf("entity %s: its columns in %s.entities: %w", entity, s.millrace, err)
		}
		out[entity] = e
		return nil
	})
	return out, err
}

// newTable puts a declaration and its table together.
func newTable(p fold.Projection, name string, s shape, at int) (*table, error) {
	t := &table{entity: p.Entity(), name: name, stage: fmt.Sprintf("millrace_stage_%d", at), shape: s, cols: p.Columns()}
	known := map[string]string{}
	for _, c := range s.Columns {
		known[c.Name] = c.Column
	}
	for _, c := range t.cols {
		id, ok := known[c.Name]
		if !ok {
			return nil, fmt.Errorf("entity %s: its table has no column %s", t.entity, c.Name)
		}
		t.names = append(t.names, id)
	}
	return t, nil
}

// change makes and alters tables in one transaction.
//
// It is a barrier: every commit at work ends first, later ones wait, and those of a process that looked before are sent to look again
// (millrace.layout.generation).
func (w *Warehouse) change(ctx context.Context, conn *pgx.Conn) (v *view, err error) {
	err = inTransaction(ctx, conn, func(tx pgx.Tx) error {
		if err := w.stopCommits(ctx, tx); err != nil {
			return err
		}
		if err := w.lockServing(ctx, tx); err != nil {
			return err
		}
		if err := w.makeLayout(ctx, tx); err != nil {
			return err
		}
		stored, err := readEntities(ctx, conn, w.space)
		if err != nil {
			return err
		}
		changed := false
		for _, p := range w.cfg.Projections {
			did, err := w.prepareEntity(ctx, tx, p, stored)
			if err != nil {
				return fmt.Errorf("entity %s: %w", p.Entity(), err)
			}
			changed = changed || did
		}
		if err := w.leaveOut(ctx, tx); err != nil {
			return err
		}
		if changed {
			if _, err := tx.Exec(ctx, "UPDATE "+w.space.millrace+".layout SET generation = generation + 1"); err != nil {
				return err
			}
		}
		var missing bool
		if v, missing, err = w.inspect(ctx, conn); err == nil && missing {
			err = errors.New("the tables are not as they were just made")
		}
		return err
	})
	return v, err
}

// stopCommits waits until no commit is at work. What stands in the way is told: it may be a process that is frozen.
func (w *Warehouse) stopCommits(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", w.space.barrier())
	if is(err, lockNotAvailable) {
		return fmt.Errorf("tables have to change, and a commit of another process does not end (see pg_stat_activity): %w", err)
	}
	return err
}

func (w *Warehouse) makeLayout(ctx context.Context, tx pgx.Tx) error {
	s := w.space
	for _, schema := range []string{s.root, s.bronze, s.silver, s.millrace, s.bronzeBase, s.base} {
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", schema).Scan(&exists); err != nil {
			return err
		}
		if exists { // asking for it with IF NOT EXISTS would take the right to make schemas
			continue
		}
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
			return err
		}
	}
	var pointer, layout bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL", s.root+".serving", s.millrace+".layout").Scan(&pointer, &layout); err != nil {
		return err
	}
	if !pointer { // the first generation that there is serves
		if _, err := tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s.serving AS SELECT %d AS generation", s.root, s.generation)); err != nil {
			return err
		}
	}
	if layout {
		return nil
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, strings.NewReplacer("{m}", s.millrace, "{b}", s.bronzeBase).Replace(layoutSQL)).ReadAll(); err != nil {
		return err
	}
	if serves, err := w.serves(ctx, tx); err != nil || !serves {
		return err
	}
	return show(ctx, tx, s.bronze+".events", bronzeQuery(s))
}
