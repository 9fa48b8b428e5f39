package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Sighting is a committed row that was seen in the table.
type Sighting struct {
	ID  int64
	Xid uint64
}

// Newest returns the committed row with the highest id of each leaf that holds one: a few index pages.
func Newest(ctx context.Context, conn *pgx.Conn, schema string) ([]Sighting, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	leaves := make([]string, LeafCount)
	for i := range leaves {
		leaves[i] = `(select e.id, e.xid from ` + quoted + `.event_` + strconv.Itoa(i) + ` e order by e.id desc limit 1)`
	}
	rows, err := conn.Query(ctx, strings.Join(leaves, " union all "))
	if err != nil {
		return nil, fmt.Errorf("look at the newest rows: %w", err)
	}
	seen, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Sighting])
	return seen, wrapped(err, "look at the newest rows")
}

// Gone returns those of the rows that are not in the table any more.
func Gone(ctx context.Context, conn *pgx.Conn, schema string, seen []Sighting) ([]Sighting, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil || len(seen) == 0 {
		return nil, err
	}
	ids, xids := make([]int64, len(seen)), make([]uint64, len(seen))
	for i, s := range seen {
		ids[i], xids[i] = s.ID, s.Xid
	}
	rows, err := conn.Query(ctx, `select s.id, s.xid from unnest($1::bigint[], $2::xid8[]) s(id, xid)
		where not exists (select from `+quoted+`.event e where e.id = s.id)`, ids, xids)
	if err != nil {
		return nil, fmt.Errorf("look for rows seen before: %w", err)
	}
	gone, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Sighting])
	return gone, wrapped(err, "look for rows seen before")
}
