package gold

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// building is one build of one model, within its transaction.
type building struct {
	r    *Runner
	e    Engine
	tx   Tx
	m    *Model
	plan plan
	old  *Record // nil at first
	rec  *Record // what will be remembered
	// affected is how many keys an incremental build made anew.
	affected int64
	failed   []TestFailure
}

var (
	// errTests ends a build whose tests do not hold.
	errTests = errors.New("tests do not hold")
	// errInFull has an incremental build made in full.
	errInFull = errors.New("it has to be built in full")
)

// run builds the model, tests what was built, and shows it to readers, all in the transaction.
func (b *building) run(ctx context.Context) error {
	columns, err := b.tx.Describe(ctx, b.m.render(b.e.Input))
	if err != nil {
		return err
	}
	if err := b.checkColumns(columns); err != nil {
		return err
	}
	b.rec.Columns = columns
	if b.plan.state == "incremental" && !slices.Equal(columns, b.old.Columns) {
		b.plan.state, b.plan.reason = "full", "its columns have changed"
	}
	if b.plan.state == "incremental" {
		err := b.incremental(ctx)
		if errors.Is(err, errInFull) {
			b.plan.state, err = "full", nil
		}
		if err != nil {
			return err
		}
	}
	if b.plan.state == "full" {
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	return b.finish(ctx)
}

// finish shows what was built, last of all: from then on readers may wait until the transaction ends.
func (b *building) finish(ctx context.Context) error {
	if err := b.test(ctx, b.e.Base(b.rec.Base)); err != nil {
		return err
	}
	rows, err := b.count(ctx, b.e.Base(b.rec.Base)+" AS t")
	if err != nil {
		return err
	}
	b.rec.Rows, b.rec.Mode = rows, b.plan.state
	if b.old != nil && b.old.Base == b.rec.Base {
		return nil
	}
	return b.publish(ctx)
}

// checkColumns refuses what a table could not have, and tests and keys of columns that are not there.
func (b *building) checkColumns(columns []Column) error {
	seen := map[string]bool{}
	for _, c := range columns {
		if err := checkColumn(c.Name); err != nil {
			return b.m.fail(0, "%v", err)
		}
		if seen[strings.ToLower(c.Name)] {
			return b.m.fail(0, "two columns are called %s", c.Name)
		}
		seen[strings.ToLower(c.Name)] = true
	}
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c Column) bool { return c.Name == name })
	}
	for _, t := range b.m.Tests {
		for _, c := range t.columns {
			if !has(c) {
				return b.m.fail(0, "test %s: the model has no column %s", t.Name, c)
			}
		}
	}
	if b.m.Incremental != nil {
		for _, c := range b.m.Incremental.Key {
			if !has(c) {
				return b.m.fail(0, "incremental: key: the model has no column %s", c)
			}
		}
	}
	return nil
}

// full builds the whole model: beside the table that readers see, or, where the engine wants that, in its place.
func (b *building) full(ctx context.Context) error {
	query := " AS SELECT * FROM (" + b.m.render(b.e.Input) + "\n) AS _millrace_all"
	if b.inPlace() {
		if err := b.replaceAll(ctx, query); err != nil {
			return err
		}
	} else {
		b.rec.Base = fmt.Sprintf("%s_%d", b.m.Name, b.rec.Build)
		if err := b.tx.Exec(ctx, "CREATE TABLE "+b.e.Base(b.rec.Base)+query); err != nil {
			return err
		}
		if err := b.tx.Settle(ctx, b.rec.Base, b.rec.Key); err != nil {
			return err
		}
	}
	return b.rememberAll(ctx)
}

// inPlace says whether the table that readers see can take the new rows.
func (b *building) inPlace() bool {
	return b.e.InPlace() && b.old != nil && b.old.Base != "" && slices.Equal(b.old.Columns, b.rec.Columns) && slices.Equal(b.old.Key, b.rec.Key)
}

// replaceAll puts the rows of a build in the place of those that are there. They are tested before, so that a build that fails writes nothing there.
func (b *building) replaceAll(ctx context.Context, query string) error {
	b.rec.Base = b.old.Base
	fresh := b.e.Temp(ownPrefix + "_fresh")
	if err := b.tx.Exec(ctx, "CREATE TEMPORARY TABLE "+fresh+query); err != nil {
		return err
	}
	if err := b.test(ctx, fresh); err != nil {
		return err
	}
	for _, s := range []string{"DELETE FROM " + b.e.Base(b.rec.Base), "INSERT INTO " + b.e.Base(b.rec.Base) + " SELECT * FROM " + fresh, "DROP TABLE " + fresh} {
		if err := b.tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return b.tx.Settle(ctx, b.rec.Base, nil)
}

// rememberAll makes the memory of each input that is followed, in the place of what was remembered before.
func (b *building) rememberAll(ctx context.Context) error {
	if b.old != nil {
		if err := b.drop(ctx, b.bases(b.old.Seen)...); err != nil {
			return err
		}
	}
	b.rec.Seen = nil
	if b.m.Incremental == nil {
		return nil
	}
	b.rec.Seen = map[string]string{}
	for i, input := range b.followed() {
		seen := fmt.Sprintf("%s_%d_seen_%d", b.m.Name, b.rec.Build, i)
		b.rec.Seen[input] = seen
		if err := b.tx.Exec(ctx, "CREATE TABLE "+b.e.Base(seen)+" AS "+b.remember(input)); err != nil {
			return b.wrongFrom(input, err)
		}
		if err := b.tx.Settle(ctx, seen, nil); err != nil {
			return err
		}
	}
	return nil
}

// bases are the full names of tables of gold_base.
func (b *building) bases(tables map[string]string) []string {
	var out []string
	for _, t := range sortedValues(tables) {
		out = append(out, b.e.Base(t))
	}
	return out
}

// followed are the inputs that an incremental model follows row by row.
func (b *building) followed() []string { return slices.Sorted(maps.Keys(b.m.Incremental.From)) }

// remember is the query for what was built from an input: the version of each row, and the key that it goes to.
func (b *building) remember(input string) string {
	cols := []string{"_key", "_version"}
	for i, expr := range b.m.Incremental.From[input] {
		cols = append(cols, fmt.Sprintf("(%s\n) AS %s", expr, keyColumn(i)))
	}
	return "SELECT " + strings.Join(cols, ", ") + " FROM " + b.e.Input(input) + " AS " + ownPrefix + "_in"
}

func keyColumn(i int) string { return fmt.Sprintf("%s_k%d", ownPrefix, i) }

func (b *building) wrongFrom(input string, err error) error {
	if text, _, transient := b.e.Explain(err); !transient {
		return b.m.fail(0, "incremental: from: %s: %s", input, text)
	}
	return err
}

// publish has the view show the new table, and takes away what was behind it.
func (b *building) publish(ctx context.Context) error {
	if err := b.tx.Publish(ctx, b.m.Name, b.rec.Base, b.rec.Columns); err != nil {
		return err
	}
	if b.old == nil || b.old.Base == "" {
		return nil
	}
	return b.drop(ctx, b.e.Base(b.old.Base))
}

func (b *building) count(ctx context.Context, from string) (n int64, err error) {
	rows, err := b.tx.Rows(ctx, "SELECT CAST(count(*) AS VARCHAR) FROM "+from)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(rows[0][0], &n)
	return n, err
}

const (
	maxExamples     = 5
	maxExampleCols  = 6
	maxExampleChars = 80
)

// test finds the rows of a table that fail a test. Readers still see what was there before.
func (b *building) test(ctx context.Context, table string) error {
	for _, t := range b.m.Tests {
		from := table + " AS _millrace_row WHERE " + t.failing(b.e, table)
		n, err := b.count(ctx, from)
		if err != nil {
			if text, _, transient := b.e.Explain(err); !transient {
				return b.m.fail(0, "test %s: %s", t.Name, text)
			}
			return err
		}
		if n == 0 {
			continue
		}
		examples, err := b.examples(ctx, t, from)
		if err != nil {
			return err
		}
		b.failed = append(b.failed, TestFailure{Test: t.Name, Rows: n, Examples: examples})
	}
	if len(b.failed) > 0 {
		return errTests
	}
	return nil
}

// examples are a few of the rows that fail a test: the columns of the test, and the first ones of the model.
func (b *building) examples(ctx context.Context, t Test, from string) ([]string, error) {
	cols := slices.Clone(t.columns)
	for _, c := range b.rec.Columns {
		if len(cols) < maxExampleCols && !slices.Contains(cols, c.Name) {
			cols = append(cols, c.Name)
		}
	}
	texts := make([]string, len(cols))
	for i, c := range cols {
		texts[i] = "coalesce(CAST(" + b.e.Quote(c) + " AS VARCHAR), 'NULL')"
	}
	rows, err := b.tx.Rows(ctx, fmt.Sprintf("SELECT %s FROM %s ORDER BY %s LIMIT %d", strings.Join(texts, ", "), from, strings.Join(texts, ", "), maxExamples))
	out := make([]string, len(rows))
	for i, row := range rows {
		parts := make([]string, len(row))
		for j, v := range row {
			parts[j] = cols[j] + "=" + cut(v, maxExampleChars)
		}
		out[i] = strings.Join(parts, ", ")
	}
	return out, err
}

// cut returns at most n characters.
func cut(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}
