package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/fold"
)

// Remove implements fold.Generational: it drops the tables of this generation, and the views of entities that only it has, in one transaction. What others have made to
// depend on them stands in the way and is told. Of the first generation the schemas stay, which may have been made for the sink's user.
func (w *Warehouse) Remove(ctx context.Context) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	conn, err := w.dial(ctx)
	if err == nil {
		defer func() { _ = hangUp(conn) }()
		err = inTransaction(ctx, conn, func(tx pgx.Tx) error { return w.remove(ctx, tx) })
	}
	if err == nil {
		err = w.at("after removing")
	}
	if err != nil {
		return doing(err, "remove generation %d of the warehouse", w.space.generation)
	}
	w.cfg.Logger.Info("warehouse removed", "kind", "postgres", "generation", w.space.generation)
	return nil
}

func (w *Warehouse) remove(ctx context.Context, tx pgx.Tx) error {
	if err := w.stopCommits(ctx, tx); err != nil {
		return err
	}
	if err := w.lockServing(ctx, tx); err != nil {
		return err
	}
	if serves, err := w.serves(ctx, tx); err != nil || serves {
		if serves {
			err = fold.ErrServing
		}
		return err
	}
	for _, list := range []string{w.ownViews(), w.ownTables()} {
		rows, err := tx.Query(ctx, list)
		if err != nil {
			return err
		}
		drops, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, drop := range drops {
			if _, err := tx.Exec(ctx, drop); err != nil {
				return err
			}
		}
		if err := w.at("within removing"); err != nil {
			return err
		}
	}
	return nil
}

// ownViews lists what drops the views in silver that lead to this generation: those of entities that the one that serves does not have.
func (w *Warehouse) ownViews() string {
	return fmt.Sprintf(`SELECT DISTINCT 'DROP VIEW ' || v.oid::regclass FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
		JOIN pg_class t ON t.oid = d.refobjid WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND v.relkind = 'v'
		AND t.relnamespace = to_regnamespace(%s) AND v.relnamespace = to_regnamespace(%s)`, literal(w.space.base), literal(w.space.silver))
}

// ownTables lists what drops this generation's tables, and its schemas unless it is the first one.
func (w *Warehouse) ownTables() string {
	s := w.space
	if s.generation == 1 {
		return fmt.Sprintf(`SELECT 'DROP TABLE ' || c.oid::regclass FROM pg_class c WHERE c.relkind = 'r' AND (c.relnamespace IN (to_regnamespace(%s), to_regnamespace(%s))
			OR c.relnamespace = to_regnamespace(%s) AND c.relname IN ('layout', 'positions', 'quarantine', 'entities', 'left_out'))
			UNION ALL SELECT 'DROP FUNCTION ' || p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = to_regnamespace(%[3]s) AND p.proname = 'advance'`,
			literal(s.base), literal(s.bronzeBase), literal(s.millrace))
	}
	return fmt.Sprintf(`SELECT what FROM (SELECT 1 AS nth, 'DROP TABLE ' || c.oid::regclass AS what FROM pg_class c
			WHERE c.relkind = 'r' AND c.relnamespace IN (to_regnamespace(%[1]s), to_regnamespace(%[2]s), to_regnamespace(%[3]s))
		UNION ALL SELECT 2, 'DROP FUNCTION ' || p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = to_regnamespace(%[3]s) AND p.proname = 'advance'
		UNION ALL SELECT 3, 'DROP SCHEMA ' || n.oid::regnamespace FROM pg_namespace n WHERE n.oid IN (to_regnamespace(%[1]s), to_regnamespace(%[2]s), to_regnamespace(%[3]s))
		) AS drops ORDER BY nth, what`, literal(s.base), literal(s.bronzeBase), literal(s.millrace))
}

// RemoveGeneration removes a generation that nobody can open any more, for its declarations are gone; see Remove.
func RemoveGeneration(ctx context.Context, cfg Config) error {
	cfg = cfg.WithDefaults()
	w := &Warehouse{cfg: cfg, space: spaceOf(cfg.Schema, cfg.Generation)}
	return w.Remove(ctx)
}
