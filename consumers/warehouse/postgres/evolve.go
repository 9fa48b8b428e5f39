package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// step is one change of a table.
type step struct {
	what string // for the log
	sql  string // "" if the table stays as it is
	// check is a query that finds a row with a value that does not fit, "" if every value does.
	check string
	// column and to are what the check is about.
	column, to string
}

// evolve lets a table follow its declaration: columns are added, types widened, and a column that is no longer declared is kept. What
// that cannot do is ErrRebuild with the reason.
func (w *Warehouse) evolve(ctx context.Context, tx pgx.Tx, p fold.Projection, s storedEntity) error {
	if s.topic != p.Topic() {
		return fmt.Errorf("%w: it follows topic %s now, and followed %s", ErrRebuild, p.Topic(), s.topic)
	}
	next, steps, err := plan(s.shape, p)
	if err != nil {
		return err
	}
	t, err := newTable(p, s.name, next, 0)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := w.alter(ctx, tx, t, steps); err != nil {
		return err
	}
	columns, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE "+w.space.millrace+".entities SET digest = $2, columns = $3 WHERE entity = $1", p.Entity(), p.Digest(), columns); err != nil {
		return err
	}
	for _, st := range steps {
		w.metrics.ddl.Inc()
		w.cfg.Logger.Warn("the table of an entity follows its declaration", "entity", p.Entity(), "change", st.what, "took", time.Since(start))
	}
	return nil
}

// plan compares what a table was made for with what is declared.
func plan(s shape, p fold.Projection) (next shape, steps []step, err error) {
	parts := partsOf(p)
	if parts.Existence == "" || s.Existence == "" {
		return next, nil, fmt.Errorf("%w: its declaration has changed, and does not tell what of it", ErrRebuild)
	}
	if parts.Existence != s.Existence {
		return next, nil, fmt.Errorf("%w: other events make or delete it now", ErrRebuild)
	}
	declared := map[string]projection.Column{}
	for _, c := range p.Columns() {
		declared[c.Name] = c
	}
	next.Existence = s.Existence
	known := map[string]bool{}
	for _, have := range s.Columns {
		known[have.Name] = true
		want, ok := declared[have.Name]
		if !ok {
			if !have.Gone {
				steps = append(steps, step{what: "column " + have.Name + " is no longer declared; it stays as it is"})
			}
			have.Gone = true
			next.Columns = append(next.Columns, have)
			continue
		}
		st, err := follow(have, want, parts)
		if err != nil {
			return next, nil, err
		}
		if st != nil {
			steps = append(steps, *st)
		}
		have.Type = want.Type.String()
		next.Columns = append(next.Columns, have)
	}
	for _, c := range p.Columns() {
		if known[c.Name] {
			continue
		}
		one, err := columnOf(c, parts)
		if err != nil {
			return next, nil, consumers.AsSystemic(err)
		}
		one.Added = true
		next.Columns = append(next.Columns, one)
		steps = append(steps, step{what: "column " + c.Name + " is added; rows get it with their next event, all of them with a rebuild",
			sql: "ADD COLUMN " + quote(one.Column) + " " + sqlType(c.Type)})
	}
	return next, steps, consumers.AsSystemic(next.distinct())
}

// follow says what makes a column hold what is declared now.
func follow(have column, want projection.Column, parts projection.Parts) (*step, error) {
	switch {
	case have.Gone:
		return nil, fmt.Errorf("%w: column %s was not declared for a while, and events have gone by", ErrRebuild, have.Name)
	case have.Rule != parts.Columns[have.Name]:
		return nil, fmt.Errorf("%w: column %s is made in another way now", ErrRebuild, have.Name)
	}
	was, err := projection.ParseType(have.Type)
	if err != nil {
		return nil, err
	}
	if was.Equal(want.Type) {
		return nil, nil
	}
	col := quote(have.Column)
	using, check, ok := widen(was, want.Type, col)
	if !ok {
		return nil, fmt.Errorf("%w: column %s is %s now and was %s, which does not fit", ErrRebuild, have.Name, want.Type, was)
	}
	return &step{
		what: fmt.Sprintf("column %s is widened from %s to %s", have.Name, was, want.Type), check: check, column: have.Name, to: want.Type.String(),
		sql: "ALTER COLUMN " + col + " TYPE " + sqlType(want.Type) + " USING " + using,
	}, nil
}

// widen says how values of one type become those of another that holds them all: the same values, as a fold would make them now. check
// finds a value that it does not hold, where that depends on the value.
func widen(from, to projection.Type, col string) (using, check string, ok bool) {
	cast := col + "::" + sqlType(to)
	switch {
	case from.Kind == projection.List && to.Kind == projection.List:
		_, check, ok = widen(*from.Elem, *to.Elem, col)
		return cast, "", (ok && check == "" || from.Elem.Equal(*to.Elem)) && !dated(*from.Elem, *to.Elem)
	case from.Kind == projection.Decimal && to.Kind == projection.Decimal:
		return cast, "", to.Scale >= from.Scale && to.Precision-to.Scale >= from.Precision-from.Scale
	case from.Kind == projection.Int && to.Kind == projection.Decimal:
		return cast, "", to.Precision-to.Scale >= 19
	case from.Kind == projection.Int && to.Kind == projection.Float:
		return cast, col + " NOT BETWEEN -9007199254740992 AND 9007199254740992", true
	case from.Kind == projection.Date && to.Kind == projection.Timestamp:
		return col + "::timestamp AT TIME ZONE 'UTC'", "", true
	}
	return "", "", false
}

// dated says that elements would have to be converted one by one.
func dated(from, to projection.Type) bool {
	return from.Kind == projection.Date && to.Kind == projection.Timestamp
}

// alter changes a table and its view. What others have granted on the view, and how they have set it, stays.
func (w *Warehouse) alter(ctx context.Context, tx pgx.Tx, t *table, steps []step) error {
	var changes []string
	widened := false
	for _, st := range steps {
		if st.sql == "" {
			continue
		}
		if err := w.checkStep(ctx, tx, t, st); err != nil {
			return err
		}
		changes = append(changes, st.sql)
		widened = widened || strings.HasPrefix(st.sql, "ALTER COLUMN")
	}
	if len(changes) == 0 {
		return nil
	}
	serves, err := w.serves(ctx, tx)
	if err != nil {
		return err
	}
	v := viewOf{tx: tx, name: t.view(w.space)}
	if serves {
		if err := v.remember(ctx); err != nil {
			return err
		}
	}
	if widened && serves { // Postgres changes no column that a view shows
		if _, err := tx.Exec(ctx, "DROP VIEW "+v.name); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "ALTER TABLE "+t.full(w.space)+" "+strings.Join(changes, ", ")); err != nil {
		return err
	}
	if !serves {
		return nil
	}
	if _, err := tx.Exec(ctx, "CREATE OR REPLACE VIEW "+v.name+v.options()+" AS "+t.viewQuery(w.space)); err != nil {
		return err
	}
	if !widened {
		return nil
	}
	return v.grant(ctx)
}

func (w *Warehouse) checkStep(ctx context.Context, tx pgx.Tx, t *table, st step) error {
	if st.check == "" {
		return nil
	}
	var found bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+t.full(w.space)+" WHERE "+st.check+")").Scan(&found); err != nil {
		return err
	}
	if found {
		return fmt.Errorf("%w: column %s holds values that have no exact %s", ErrRebuild, st.column, st.to)
	}
	return nil
}
