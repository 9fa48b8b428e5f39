package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

// fetchEvents is how many events are asked for at a time.
const fetchEvents = 500

// literal writes a text for SQL, where no parameter can stand.
func literal(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// fetchAll reads a cursor to its end. Rows are in their binary form, and good until the next.
func fetchAll(ctx context.Context, pg *pgconn.PgConn, cursor string, atOnce int, each func(row [][]byte) error) error {
	for {
		rr := pg.ExecParams(ctx, fmt.Sprintf("FETCH FORWARD %d FROM %s", atOnce, cursor), nil, nil, nil, asBinary)
		var stopped error
		got := 0
		for rr.NextRow() {
			got++
			if stopped == nil {
				stopped = each(rr.Values())
			}
		}
		if _, err := rr.Close(); err != nil && stopped == nil {
			return err
		}
		if stopped != nil || got < atOnce {
			return stopped
		}
	}
}

// Records implements fold.EventKeeper. The server puts the events of the partition in order and keeps them aside while they are read, on its disk, so that no
// snapshot stays open meanwhile: a build reads for hours.
func (w *Warehouse) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	var stopped error
	err := w.records(ctx, tp, from, until, func(r *kgo.Record) error {
		if stopped = ctx.Err(); stopped == nil {
			stopped = yield(r)
		}
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	return doing(err, "read the events of %s/%d from %d to %d", tp.Topic, tp.Partition, from, until)
}

func (w *Warehouse) records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	conn, err := w.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(conn) }()
	declare := fmt.Sprintf(`SET cursor_tuple_fraction = 1; DECLARE millrace_records BINARY NO SCROLL CURSOR WITH HOLD FOR
		SELECT "offset", key, schema_id, event_time, headers, _headers, payload FROM %s.events
		WHERE topic = %s AND partition = %d AND "offset" >= %d AND "offset" < %d ORDER BY "offset"`, w.space.bronzeBase, literal(tp.Topic), tp.Partition, from, until)
	if _, err := conn.PgConn().Exec(ctx, declare).ReadAll(); err != nil {
		return err
	}
	return fetchAll(ctx, conn.PgConn(), "millrace_records", fetchEvents, func(row [][]byte) error {
		k, err := keptOf(tp, row)
		if err != nil {
			return consumers.AsSystemic(fmt.Errorf("offset %d: %w", k.Offset, err))
		}
		r, err := k.Record()
		if err != nil {
			return err
		}
		return yield(r)
	})
}

func keptOf(tp consumers.TopicPartition, row [][]byte) (*warehouse.Kept, error) {
	k := &warehouse.Kept{TopicPartition: tp}
	if len(row[0]) != 8 || len(row[2]) != 4 {
		return k, errValue
	}
	k.Offset, k.SchemaID = int64(be.Uint64(row[0])), int32(be.Uint32(row[2]))
	k.Key, k.Headers, k.Exact, k.Payload = string(row[1]), string(row[4]), row[5], row[6]
	var err error
	k.Time, err = timeOf(row[3])
	return k, err
}

// Kept implements fold.EventKeeper.
func (w *Warehouse) Kept(ctx context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	if err := w.enter(); err != nil {
		return nil, err
	}
	defer w.leave()
	out := map[consumers.TopicPartition]fold.Kept{}
	conn, err := w.dial(ctx)
	if err != nil {
		return nil, doing(err, "count the events kept")
	}
	defer func() { _ = hangUp(conn) }()
	rows, err := conn.Query(ctx, `SELECT topic, partition, min("offset"), max("offset"), count(*), count(DISTINCT "offset"), min(event_time)
		FROM `+w.space.bronzeBase+`.events GROUP BY topic, partition`)
	if err != nil {
		return nil, doing(err, "count the events kept")
	}
	var tp consumers.TopicPartition
	var k fold.Kept
	var oldest time.Time
	_, err = pgx.ForEachRow(rows, []any{&tp.Topic, &tp.Partition, &k.First, &k.Last, &k.Events, &k.Offsets, &oldest}, func() error {
		k.Oldest = oldest.UTC()
		out[tp] = k
		return nil
	})
	if err != nil {
		return nil, doing(err, "count the events kept")
	}
	return out, nil
}
