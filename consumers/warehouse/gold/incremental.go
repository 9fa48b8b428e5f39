package gold

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An incremental build compares each input with what was remembered of it: the version of every row that was built from, and the key that the
// row went to. A row is changed if its version is another, or it is new, or gone. The keys that changed rows went to and those that they go to now
// are affected, and only their rows are computed, from only their rows of the inputs.
//
// Neither the time of a row nor the sink's position would do for that. Rows of several partitions do not come in the order of their times or
// versions, and a redrive changes states without a move of the position.

// incremental replaces the rows of the keys that changed rows go into, or went into.
func (b *building) incremental(ctx context.Context) error {
	b.rec.Base, b.rec.Seen = b.old.Base, b.old.Seen
	affected := b.e.Temp(ownPrefix + "_affected")
	if err := b.collect(ctx, affected); err != nil {
		return err
	}
	if err := b.replace(ctx, affected); err != nil {
		return err
	}
	for _, input := range b.followed() {
		if slices.Contains(b.plan.moved, input) {
			if err := b.catchUp(ctx, input); err != nil {
				return err
			}
		}
	}
	if b.affected == 0 { // readers see nothing new, and so nothing downstream has moved
		b.rec.Build = b.old.Build
	}
	return b.drop(ctx, affected)
}

// collect fills the table of affected keys. It has the types of the model's key.
func (b *building) collect(ctx context.Context, affected string) error {
	cols, nulls := []string{}, []string{}
	for i, k := range b.m.Incremental.Key {
		cols = append(cols, b.e.Quote(k)+" AS "+keyColumn(i))
		nulls = append(nulls, keyColumn(i)+" IS NULL")
	}
	create := "CREATE TEMPORARY TABLE " + affected + " AS SELECT " + strings.Join(cols, ", ") + " FROM " + b.e.Base(b.rec.Base) + " AS t LIMIT 0"
	if err := b.tx.Exec(ctx, create); err != nil {
		return err
	}
	for _, input := range b.followed() {
		if !slices.Contains(b.plan.moved, input) {
			continue
		}
		if err := b.tx.Exec(ctx, "INSERT INTO "+affected+" "+b.changed(input)); err != nil {
			return b.wrongFrom(input, err)
		}
	}
	n, err := b.count(ctx, affected+" WHERE "+strings.Join(nulls, " OR "))
	if err != nil {
		return err
	}
	if n > 0 { // null is equal to nothing, and so finds no rows
		b.plan.reason = "a changed row has no key"
		if err := b.drop(ctx, affected); err != nil {
			return err
		}
		return errInFull
	}
	b.affected, err = b.count(ctx, "(SELECT DISTINCT * FROM "+affected+") AS d")
	return err
}

// changed are the keys of the rows of an input that changed: those before and those now.
func (b *building) changed(input string) string {
	keys := make([]string, len(b.m.Incremental.Key))
	for i := range keys {
		keys[i] = keyColumn(i)
	}
	list := strings.Join(keys, ", ")
	seen := b.e.Base(b.rec.Seen[input])
	now := "(" + b.remember(input) + ") AS n"
	return fmt.Sprintf(`SELECT %[1]s FROM %[2]s AS s WHERE NOT EXISTS (SELECT 1 FROM %[3]s AS v WHERE v._key = s._key AND v._version = s._version)
		UNION ALL SELECT %[1]s FROM %[4]s WHERE NOT EXISTS (SELECT 1 FROM %[2]s AS s WHERE s._key = n._key AND s._version = n._version)`,
		list, seen, b.e.Input(input), now)
}

// catchUp has the memory of an input agree with it.
func (b *building) catchUp(ctx context.Context, input string) error {
	seen := b.e.Base(b.rec.Seen[input])
	err := b.tx.Exec(ctx, "DELETE FROM "+seen+" AS s WHERE NOT EXISTS (SELECT 1 FROM "+b.e.Input(input)+" AS v WHERE v._key = s._key AND v._version = s._version)")
	if err != nil {
		return err
	}
	return b.tx.Exec(ctx, "INSERT INTO "+seen+" SELECT * FROM ("+b.remember(input)+") AS n WHERE NOT EXISTS (SELECT 1 FROM "+seen+" AS s WHERE s._key = n._key)")
}

// replace computes the rows of the affected keys, and puts them in the place of those that are there.
func (b *building) replace(ctx context.Context, affected string) error {
	if b.affected == 0 {
		return nil
	}
	fresh := b.e.Temp(ownPrefix + "_fresh")
	whole := map[string]string{}
	for _, input := range b.followed() {
		narrow, err := b.narrow(ctx, input, affected)
		if err != nil {
			return err
		}
		whole[input] = narrow
	}
	sql := b.m.render(func(input string) string {
		if narrow, ok := whole[input]; ok {
			return narrow
		}
		return b.e.Input(input)
	})
	if err := b.tx.Exec(ctx, "CREATE TEMPORARY TABLE "+fresh+" AS SELECT * FROM ("+sql+"\n) AS _millrace_all"); err != nil {
		return err
	}
	var match, names []string
	for i, k := range b.m.Incremental.Key {
		match = append(match, fmt.Sprintf("a.%s = t.%s", keyColumn(i), b.e.Quote(k)))
	}
	for _, c := range b.rec.Columns {
		names = append(names, b.e.Quote(c.Name))
	}
	known := "EXISTS (SELECT 1 FROM " + affected + " AS a WHERE " + strings.Join(match, " AND ") + ")"
	if strays, err := b.count(ctx, fresh+" AS t WHERE NOT "+known); err != nil || strays > 0 {
		if err == nil {
			err = b.m.fail(0, "incremental: %d rows came out for keys that no changed row goes into: incremental.from does not say what the SQL does", strays)
		}
		return err
	}
	list := strings.Join(names, ", ")
	for _, s := range []string{
		"DELETE FROM " + b.e.Base(b.rec.Base) + " AS t WHERE " + known,
		"INSERT INTO " + b.e.Base(b.rec.Base) + " (" + list + ") SELECT " + list + " FROM " + fresh,
	} {
		if err := b.tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return b.drop(ctx, append(slices.Sorted(maps.Values(whole)), fresh)...)
}

// narrow copies the rows of an input that go into affected keys. The copy has the input's own name, which the SQL may use for it.
func (b *building) narrow(ctx context.Context, input, affected string) (table string, err error) {
	match := []string{}
	for i, expr := range b.m.Incremental.From[input] {
		match = append(match, fmt.Sprintf("a.%s = (%s\n)", keyColumn(i), expr))
	}
	table = b.e.Temp(strings.TrimPrefix(input, "silver."))
	sql := "SELECT " + ownPrefix + "_in.* FROM " + b.e.Input(input) + " AS " + ownPrefix + "_in WHERE EXISTS (SELECT 1 FROM " + affected + " AS a WHERE " + strings.Join(match, " AND ") + ")"
	if err := b.tx.Exec(ctx, "CREATE TEMPORARY TABLE "+table+" AS "+sql); err != nil {
		return "", b.wrongFrom(input, err)
	}
	return table, nil
}

// drop takes the temporary tables of the build away.
func (b *building) drop(ctx context.Context, tables ...string) error {
	for _, t := range tables {
		if err := b.tx.Exec(ctx, "DROP TABLE "+t); err != nil {
			return err
		}
	}
	return nil
}
