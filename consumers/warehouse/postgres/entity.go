package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// parted is a declaration that tells its parts apart; *projection.Projection is one. The tables of others cannot follow a change.
type parted interface{ Parts() projection.Parts }

// prepareEntity finds the table of an entity, lets it follow its declaration, or makes it as long as none of its topic's events have gone
// by. It says whether a table that others may be writing to has changed.
func (w *Warehouse) prepareEntity(ctx context.Context, tx pgx.Tx, p fold.Projection, stored map[string]storedEntity) (changed bool, err error) {
	s, ok := stored[p.Entity()]
	if !ok {
		return false, w.makeEntity(ctx, tx, p)
	}
	if err := w.takeBack(ctx, tx, p); err != nil {
		return false, err
	}
	if s.digest == p.Digest() {
		return false, nil
	}
	err = w.evolve(ctx, tx, p, s)
	if !errors.Is(err, ErrRebuild) {
		return true, err
	}
	var used bool
	if failed := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+w.space.millrace+".positions WHERE next > 0)").Scan(&used); failed != nil || used {
		return true, errors.Join(err, failed)
	}
	return true, w.makeAnew(ctx, tx, p, s)
}

// makeAnew makes the table of an entity whose declaration has changed before anything was applied.
func (w *Warehouse) makeAnew(ctx context.Context, tx pgx.Tx, p fold.Projection, s storedEntity) error {
	for _, step := range []string{
		"DROP VIEW IF EXISTS " + w.space.silver + "." + quote(identifier(p.Entity())), "DROP TABLE IF EXISTS " + w.space.base + "." + quote(s.name)} {
		if _, err := tx.Exec(ctx, step); err != nil {
			return fmt.Errorf("make the table of %s anew, which nothing was applied to: %w", p.Entity(), err)
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM "+w.space.millrace+".entities WHERE entity = $1", p.Entity()); err != nil {
		return err
	}
	return w.makeEntity(ctx, tx, p)
}

func (w *Warehouse) makeEntity(ctx context.Context, tx pgx.Tx, p fold.Projection) error {
	var gone bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+w.space.millrace+".positions WHERE topic = $1 AND next > 0)", p.Topic()).Scan(&gone); err != nil {
		return err
	}
	if gone {
		return fmt.Errorf("%w: it is new, and events of topic %s have gone by", ErrRebuild, p.Topic())
	}
	s, err := shapeOf(p)
	if err != nil {
		return err
	}
	t, err := newTable(p, w.baseName(p), s, 0)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, t.create(w.space)); err != nil {
		return err
	}
	serves, err := w.serves(ctx, tx)
	if err == nil && serves {
		err = show(ctx, tx, t.view(w.space), t.viewQuery(w.space))
	}
	if err != nil {
		return err
	}
	columns, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO "+w.space.millrace+".entities (entity, topic, digest, base_table, columns) VALUES ($1, $2, $3, $4, $5)",
		p.Entity(), p.Topic(), p.Digest(), t.name, columns)
	return err
}

// baseName is the table of an entity: its name, the beginning of the digest that it was made for, and the generation, so that gold takes one of
// another for what it is.
func (w *Warehouse) baseName(p fold.Projection) string {
	digest := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(p.Digest()))
	name := p.Entity() + "_" + digest[:min(len(digest), 12)]
	if w.space.generation > 1 {
		name += fmt.Sprintf("_g%d", w.space.generation)
	}
	return identifier(name)
}

// shapeOf is the shape of a new table.
func shapeOf(p fold.Projection) (shape, error) {
	parts := partsOf(p)
	s := shape{Existence: parts.Existence}
	for _, c := range p.Columns() {
		one, err := columnOf(c, parts)
		if err != nil {
			return s, consumers.AsSystemic(err)
		}
		s.Columns = append(s.Columns, one)
	}
	return s, consumers.AsSystemic(s.distinct())
}

func partsOf(p fold.Projection) projection.Parts {
	if t, ok := p.(parted); ok {
		return t.Parts()
	}
	return projection.Parts{}
}

func columnOf(c projection.Column, parts projection.Parts) (column, error) {
	if err := checkName(c.Name); err != nil {
		return column{}, fmt.Errorf("column: %w", err)
	}
	if err := checkType(c.Type); err != nil {
		return column{}, fmt.Errorf("column %s: %w", c.Name, err)
	}
	return column{Name: c.Name, Column: identifier(c.Name), Type: c.Type.String(), Rule: parts.Columns[c.Name]}, nil
}

// distinct fails if two columns have one identifier.
func (s shape) distinct() error {
	seen := map[string]string{}
	for _, c := range s.Columns {
		if other, ok := seen[c.Column]; ok {
			return fmt.Errorf("columns %q and %q have the same identifier %s", other, c.Name, c.Column)
		}
		seen[c.Column] = c.Name
	}
	return nil
}

// applied is how far the topic of an entity has been applied, over all its partitions.
func (s space) applied() string {
	return "(SELECT coalesce(sum(greatest(p.next, 0)), 0) FROM " + s.millrace + ".positions p WHERE p.topic = e.topic)"
}

// leftOut says whether what is left out has to be noted anew.
func (w *Warehouse) leftOut(ctx context.Context, conn *pgx.Conn) (bool, error) {
	declared := w.declared()
	var differs bool
	m := w.space.millrace
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+m+".entities e WHERE (e.entity = ANY($1)) = (e.entity IN (SELECT l.entity FROM "+m+".left_out l)))", declared).Scan(&differs)
	return differs, err
}

func (w *Warehouse) declared() []string {
	out := []string{}
	for _, p := range w.cfg.Projections {
		out = append(out, p.Entity())
	}
	return out
}

// leaveOut notes how far the topics of entities that are not declared were applied when they were left out: their tables stay as they
// are from here on, while their topics may go on.
func (w *Warehouse) leaveOut(ctx context.Context, tx pgx.Tx) error {
	m := w.space.millrace
	_, err := tx.Exec(ctx, "INSERT INTO "+m+".left_out SELECT e.entity, "+w.space.applied()+" FROM "+m+".entities e WHERE e.entity <> ALL($1) ON CONFLICT DO NOTHING", w.declared())
	return err
}

// takeBack takes an entity in again that was left out.
//
// Promise 4: a state that missed events is wrong, so it is not gone on from.
func (w *Warehouse) takeBack(ctx context.Context, tx pgx.Tx, p fold.Projection) error {
	m := w.space.millrace
	var missed bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+m+".left_out l JOIN "+m+".entities e USING (entity) WHERE l.entity = $1 AND l.applied <> "+w.space.applied()+")", p.Entity()).Scan(&missed)
	if err != nil {
		return err
	}
	if missed {
		return fmt.Errorf("%w: it was not declared for a while, and events of topic %s have gone by", ErrRebuild, p.Topic())
	}
	_, err = tx.Exec(ctx, "DELETE FROM "+m+".left_out WHERE entity = $1", p.Entity())
	return err
}
