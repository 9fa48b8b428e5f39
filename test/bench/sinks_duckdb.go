//go:build cgo

package bench

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// mergeBatch is how many events the ceiling of MERGE takes at a time: its cost is per batch, and more than this gains little.
const mergeBatch = 50_000

// duckdbCase measures DuckDB with three lanes: events alone, and events and newest states together, as a warehouse in DuckDB keeps them
// unless it is told otherwise.
func (r *sinkRig) duckdbCase(ctx context.Context) error {
	bronze, both := r.report.in("DuckDB bronze, 3 lanes"), r.report.in("DuckDB silver and bronze, 3 lanes")
	return r.duckReps(ctx, func(t saleTopic) error {
		events, err := r.drainDuckDB(ctx, t, "")
		if err != nil {
			return err
		}
		appended, err := r.duckCeiling(ctx, t.n, true, false)
		if err != nil {
			return err
		}
		bronze.row("part of the Appender", "", events.rate/appended, atLeast(0.6))
		bronze.sinkRows(events, mostDuckDB)
		bronze.row("ceiling: Appender from memory", "1/s", appended)
		states, err := r.drainDuckDB(ctx, t, declareAll)
		if err != nil {
			return err
		}
		merged, err := r.duckCeiling(ctx, t.n, false, true)
		if err != nil {
			return err
		}
		together := 1 / (1/appended + 1/merged)
		both.row("part of MERGE alone, bronze being written as well", "", states.rate/merged)
		both.row("part of Appender and MERGE one after the other", "", states.rate/together)
		both.sinkRows(states, mostDuckDB)
		both.row("ceiling: MERGE of 50,000 from memory", "1/s", merged)
		both.row("ceiling: Appender, then MERGE", "1/s", together)
		r.say("bronze %s/s, %.2f of the Appender; with silver %s/s, %.2f of MERGE, %.2f of both", thousands(int64(events.rate)), events.rate/appended,
			thousands(int64(states.rate)), states.rate/merged, states.rate/together)
		return nil
	})
}

// duckdbSilverCase measures DuckDB with three lanes, and no events kept.
func (r *sinkRig) duckdbSilverCase(ctx context.Context) error {
	c := r.report.in("DuckDB silver, 3 lanes")
	return r.duckReps(ctx, func(t saleTopic) error {
		d, err := r.drainDuckDB(ctx, t, declareAll, bronzeOff)
		if err != nil {
			return err
		}
		merged, err := r.duckCeiling(ctx, t.n, false, true)
		if err != nil {
			return err
		}
		c.row("part of MERGE", "", d.rate/merged, atLeast(0.55))
		c.sinkRows(d, mostDuckDB)
		c.row("ceiling: MERGE of 50,000 from memory", "1/s", merged)
		r.say("silver %s/s, %.2f of MERGE", thousands(int64(d.rate)), d.rate/merged)
		return nil
	})
}

// duckReps fills a topic and measures it as often as is asked for.
func (r *sinkRig) duckReps(ctx context.Context, one func(t saleTopic) error) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	t, err := r.sales(ctx, 3, r.opts.Events)
	if err != nil {
		return err
	}
	r.report.Versions["duckdb-go"] = moduleVersion("github.com/duckdb/duckdb-go/v2")
	for rep := range r.opts.Reps {
		r.say("DuckDB, %d of %d", rep+1, r.opts.Reps)
		if err := one(t); err != nil {
			return err
		}
	}
	return nil
}

// bronzeOff is the line of a sink's configuration by which it keeps no events.
const bronzeOff = "bronze: off"

func (r *sinkRig) drainDuckDB(ctx context.Context, t saleTopic, declare string, lines ...string) (sinkDrained, error) {
	r.runs++
	path := filepath.Join(r.dir, fmt.Sprintf("warehouse_%d.duckdb", r.runs))
	lines = append(lines, "kind: duckdb", fmt.Sprintf("path: %q", path))
	d, err := r.drainSink(ctx, sinkSetup{topic: t, lines: lines, declare: declare})
	if err != nil {
		return d, err
	}
	events, offsets := t.n, t.n*(t.n+1)/2
	if slices.Contains(lines, bronzeOff) {
		events, offsets = 0, 0
	}
	if err := duckHolds(path, "SELECT count(*), coalesce(sum(seq), 0)::BIGINT FROM bronze.events", events, offsets); err != nil || declare == "" {
		return d, errors.Join(err, removeAll(path))
	}
	_, keys, sum := latest(t.n)
	return d, errors.Join(duckHolds(path, "SELECT count(*), sum(n)::BIGINT FROM silver.sale", keys, sum), removeAll(path))
}

// duckHolds compares two numbers in a file with what should be in them.
func duckHolds(path, query string, rows, sum int64) (err error) {
	conn, closeAll, err := openDuck(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	found, err := conn.QueryContext(context.Background(), query, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer found.Close()
	var got [2]driver.Value
	if err := found.Next(got[:]); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	a, _ := got[0].(int64)
	b, _ := got[1].(int64)
	return same(a, b, rows, sum)
}

func openDuck(path string) (*duckdb.Conn, func() error, error) {
	connector, err := duckdb.NewConnector(path+"?memory_limit=524288KiB", nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	conn, err := connector.Connect(context.Background())
	if err != nil {
		return nil, nil, errors.Join(err, connector.Close())
	}
	return conn.(*duckdb.Conn), func() error { return errors.Join(conn.Close(), connector.Close()) }, nil
}

const duckTables = `CREATE TABLE events (topic VARCHAR NOT NULL, partition INTEGER NOT NULL, "offset" BIGINT NOT NULL, key VARCHAR, type VARCHAR,
	event_id VARCHAR, seq BIGINT NOT NULL, event_time TIMESTAMP NOT NULL, schema_id INTEGER, headers VARCHAR, data VARCHAR, payload BLOB);
CREATE TABLE sale (_key VARCHAR NOT NULL, _version BIGINT NOT NULL, _event_id VARCHAR, _event_time TIMESTAMP, _deleted BOOLEAN NOT NULL,
	n BIGINT, customer_id VARCHAR, status VARCHAR, total DECIMAL(12,2), currency VARCHAR, quantity BIGINT, placed_at TIMESTAMP, city VARCHAR, zip VARCHAR,
	weight DOUBLE, note VARCHAR, sale_id VARCHAR)`

var duckTypes = []duckdb.Type{duckdb.TYPE_VARCHAR, duckdb.TYPE_BIGINT, duckdb.TYPE_VARCHAR, duckdb.TYPE_TIMESTAMP, duckdb.TYPE_BOOLEAN,
	duckdb.TYPE_BIGINT, duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR, duckdb.TYPE_DECIMAL, duckdb.TYPE_VARCHAR, duckdb.TYPE_BIGINT, duckdb.TYPE_TIMESTAMP,
	duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR, duckdb.TYPE_DOUBLE, duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR}

// duckCeiling is what DuckDB can do with rows that are ready in memory: the Appender, which is its fastest way in, for events, a MERGE of
// what an Appender has staged for states. JSON is taken as the text that it is.
func (r *sinkRig) duckCeiling(ctx context.Context, n int64, bronze, silver bool) (rate float64, err error) {
	r.runs++
	path := filepath.Join(r.dir, fmt.Sprintf("ceiling_%d.duckdb", r.runs))
	defer func() { err = errors.Join(err, removeAll(path)) }()
	conn, closeAll, err := openDuck(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	if _, err := conn.ExecContext(ctx, duckTables, nil); err != nil {
		return 0, fmt.Errorf("make tables: %w", err)
	}
	tell := r.progress(func() string { return "DuckDB from memory" })
	defer tell()
	var took time.Duration
	for from := int64(0); from < n; from += 4 * mergeBatch { // more rows at a time would not fit
		to := min(from+4*mergeBatch, n)
		if bronze {
			spent, err := appendEvents(conn, r, from, to)
			if err != nil {
				return 0, fmt.Errorf("append events: %w", err)
			}
			took += spent
		}
		for at := from; silver && at < to; at += mergeBatch {
			spent, err := mergeSales(conn, r, at, min(at+mergeBatch, to))
			if err != nil {
				return 0, fmt.Errorf("merge states: %w", err)
			}
			took += spent
		}
	}
	return perSecond(n, took), nil
}

func appendEvents(conn *duckdb.Conn, r *sinkRig, from, to int64) (time.Duration, error) {
	rows := make([][]driver.Value, 0, to-from)
	for at := from; at < to; at++ {
		row := make([]driver.Value, 0, len(bronzeTypes))
		for _, v := range r.bronzeValues(at) {
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	began := time.Now()
	a, err := duckdb.NewAppenderFromConn(conn, "", "events")
	if err != nil {
		return 0, err
	}
	return appendRows(began, a, rows)
}

func appendRows(began time.Time, a *duckdb.Appender, rows [][]driver.Value) (time.Duration, error) {
	for _, row := range rows {
		if err := a.AppendRow(row...); err != nil {
			return 0, errors.Join(err, a.Close())
		}
	}
	err := a.Close()
	return time.Since(began), err
}

func mergeSales(conn *duckdb.Conn, r *sinkRig, from, to int64) (time.Duration, error) {
	newest := map[int64]int64{}
	for at := from; at < to; at++ {
		newest[saleKey(at)] = at
	}
	rows := make([][]driver.Value, 0, len(newest))
	stamp, _ := time.Parse(time.RFC3339Nano, saleTime) // a constant
	for key, at := range newest {
		s, id := r.sold.of(at), saleKeyText(key)
		rows = append(rows, []driver.Value{id, at + 1, eventID(at), stamp, false, at, s.customer, s.status,
			duckdb.Decimal{Width: 12, Scale: 2, Value: big.NewInt(s.cents)}, s.currency, s.quantity, s.placed, s.city, s.zip, s.weight, s.note, id})
	}
	types := make([]duckdb.TypeInfo, len(duckTypes))
	sets, list, values := "", "", ""
	for i, t := range duckTypes {
		var err error
		if t == duckdb.TYPE_DECIMAL {
			types[i], err = duckdb.NewDecimalInfo(12, 2)
		} else {
			types[i], err = duckdb.NewTypeInfo(t)
		}
		if err != nil {
			return 0, err
		}
		name := silverColumns[i]
		sets, list, values = sets+", "+name+" = s."+name, list+", "+name, values+", s."+name
	}
	began := time.Now()
	a, err := duckdb.NewQueryAppender(conn, "MERGE INTO sale AS t USING stage AS s ON t._key = s._key WHEN MATCHED AND s._version > t._version THEN UPDATE SET "+
		sets[2:]+" WHEN NOT MATCHED THEN INSERT ("+list[2:]+") VALUES ("+values[2:]+")", "stage", types, silverColumns)
	if err != nil {
		return 0, err
	}
	return appendRows(began, a, rows)
}
