//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

// Bronze is read by ranges of offsets: the driver has a whole answer in memory. A range is as long as the payloads of the one before let expect
// pageBytes for.
const (
	pageBytes     = 8 << 20
	firstOffsets  = 1024
	mostOffsets   = 65_536
	leastOffsets  = 16
	recordsOfPage = `SELECT "offset", key, schema_id, event_time, headers::VARCHAR, _headers, payload FROM bronze.events
		WHERE topic = ? AND partition = ? AND "offset" >= ? AND "offset" < ? ORDER BY "offset"`
	nextOffset = `SELECT min("offset") FROM bronze.events WHERE topic = ? AND partition = ? AND "offset" >= ? AND "offset" < ?`
)

// Records implements fold.EventKeeper. Each range of offsets is read as of its own moment, so that the file's log does not grow meanwhile.
func (w *Warehouse) Records(ctx context.Context, tp consumers.TopicPartition, from, until int64, yield func(*kgo.Record) error) error {
	var stopped error
	err := func() error {
		for window := int64(firstOffsets); from < until; {
			end := min(until, from+window)
			rows, bytes := 0, int64(0)
			err := w.read(ctx, recordsOfPage, bind(tp.Topic, tp.Partition, from, end), func(row []driver.Value) error {
				r, err := keptOf(tp, row).Record()
				if err != nil {
					return err
				}
				rows, bytes = rows+1, bytes+int64(len(r.Value))
				stopped = yield(r)
				return stopped
			})
			if err != nil {
				return err
			}
			if from = end; rows == 0 {
				if from, err = w.nextKept(ctx, tp, from, until); err != nil {
					return err
				}
				continue
			}
			window = min(max(window*pageBytes/max(bytes, 1), leastOffsets), min(4*window, mostOffsets))
		}
		return nil
	}()
	if stopped != nil {
		return stopped
	}
	return doing(err, "read the events of %s/%d from %d to %d", tp.Topic, tp.Partition, from, until)
}

// nextKept finds the first offset from from on at which an event is kept; until if there is none.
func (w *Warehouse) nextKept(ctx context.Context, tp consumers.TopicPartition, from, until int64) (int64, error) {
	next := until
	err := w.read(ctx, nextOffset, bind(tp.Topic, tp.Partition, from, until), func(row []driver.Value) error {
		if n, ok := row[0].(int64); ok {
			next = n
		}
		return nil
	})
	return next, err
}

func keptOf(tp consumers.TopicPartition, row []driver.Value) *warehouse.Kept {
	k := &warehouse.Kept{TopicPartition: tp}
	k.Offset, _ = row[0].(int64)
	k.Key, _ = row[1].(string)
	k.SchemaID, _ = row[2].(int32)
	k.Time, _ = row[3].(time.Time)
	k.Headers, _ = row[4].(string)
	k.Exact, _ = row[5].([]byte)
	k.Payload, _ = row[6].([]byte)
	return k
}

// ReadsEvents implements fold.EventReader: bronze holds every field, unless Config.Bronze says otherwise.
func (w *Warehouse) ReadsEvents() bool { return w.cfg.Bronze == warehouse.BronzeJSON }

// Kept implements fold.EventKeeper.
func (w *Warehouse) Kept(ctx context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	out := map[consumers.TopicPartition]fold.Kept{}
	const query = `SELECT topic, partition, min("offset"), max("offset"), count(*), count(DISTINCT "offset"), min(event_time) FROM bronze.events GROUP BY topic, partition`
	err := w.read(ctx, query, nil, func(row []driver.Value) error {
		var k fold.Kept
		k.First, _ = row[2].(int64)
		k.Last, _ = row[3].(int64)
		k.Events, _ = row[4].(int64)
		k.Offsets, _ = row[5].(int64)
		k.Oldest, _ = row[6].(time.Time)
		out[consumers.TopicPartition{Topic: row[0].(string), Partition: row[1].(int32)}] = k
		return nil
	})
	if err != nil {
		return nil, doing(err, "count the events kept")
	}
	return out, nil
}
