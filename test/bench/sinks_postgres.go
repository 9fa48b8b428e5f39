package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/test/bench/peer"
)

// ceilingBatch is how many events the ceilings write at a time: what a sink's batch holds.
const ceilingBatch = 5000

// mostSink and mostDuckDB are what a sink may hold, in MiB.
const (
	mostSink   = 256
	mostDuckDB = 512
)

// postgresSink is a sink on a database.
func (r *sinkRig) postgresSink(t saleTopic, dsn, bronze, declare string) sinkSetup {
	lines := []string{"kind: postgres", fmt.Sprintf("url: %q", dsn)}
	if bronze != "" {
		lines = append(lines, "bronze: "+bronze)
	}
	return sinkSetup{topic: t, lines: lines, declare: declare, pid: r.postgres.PID()}
}

// warmSinks lets the broker compile what it will run.
func (r *sinkRig) warmSinks(ctx context.Context) error {
	if r.warmed || r.opts.Warmup == 0 {
		return nil
	}
	r.warmed = true
	r.say("warm-up: %s events", thousands(r.opts.Warmup))
	t, err := r.sales(ctx, 3, r.opts.Warmup)
	if err != nil {
		return err
	}
	_, err = r.drainSilver(ctx, t)
	return err
}

// drainSilver takes a topic into silver alone and looks at what came of it.
func (r *sinkRig) drainSilver(ctx context.Context, t saleTopic) (sinkDrained, error) {
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return sinkDrained{}, err
	}
	defer drop()
	d, err := r.drainSink(ctx, r.postgresSink(t, dsn, "off", declareAll))
	if err != nil {
		return d, err
	}
	_, keys, sum := latest(t.n)
	return d, r.holds(ctx, dsn, "SELECT count(*), sum(n)::bigint FROM silver.sale", keys, sum)
}

// silverCase measures the newest states on Postgres, their ceiling and, with three lanes, the peer.
func (r *sinkRig) silverCase(ctx context.Context, lanes int) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	n := r.opts.Events
	t, err := r.sales(ctx, lanes, n)
	if err != nil {
		return err
	}
	c := r.report.in(fmt.Sprintf("Postgres silver, %s", laneWords(lanes)))
	for rep := range r.opts.Reps {
		r.say("silver with %s, %d of %d", laneWords(lanes), rep+1, r.opts.Reps)
		d, err := r.drainSilver(ctx, t)
		if err != nil {
			return err
		}
		before := r.sinkUsage(r.postgres.PID())
		ceiling, err := r.silverCeiling(ctx, lanes, n)
		if err != nil {
			return err
		}
		server := r.sinkUsage(r.postgres.PID()).server - before.server
		c.row("part of the ceiling", "", d.rate/ceiling, atLeast(0.7))
		c.sinkRows(d, mostSink)
		c.row("ceiling: COPY and upsert from memory", "1/s", ceiling)
		c.row("ceiling: CPU per million of the server", "s", perMillion(server, n))
		r.say("%s events/s, %.2f of the ceiling (%s/s)", thousands(int64(d.rate)), d.rate/ceiling, thousands(int64(ceiling)))
		if lanes > 1 {
			if err := r.peerSink(ctx, c, t, d.rate, true, atLeast(2.5)); err != nil {
				return err
			}
		}
	}
	return nil
}

func laneWords(n int) string {
	if n == 1 {
		return "one lane"
	}
	return fmt.Sprintf("%d lanes", n)
}

// bronzeCase measures events kept as they came, on three lanes.
func (r *sinkRig) bronzeCase(ctx context.Context) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	n := r.opts.Events
	t, err := r.sales(ctx, 3, n)
	if err != nil {
		return err
	}
	c := r.report.in("Postgres bronze, 3 lanes")
	for rep := range r.opts.Reps {
		var rates [2]float64
		for i, kind := range []string{"", "payload"} {
			r.say("bronze %s, %d of %d", kind, rep+1, r.opts.Reps)
			d, err := r.drainBronze(ctx, t, kind)
			if err != nil {
				return err
			}
			if rates[i] = d.rate; kind == "" {
				c.sinkRows(d, mostSink)
			} else {
				c.row("without the fields as JSON (bronze: payload)", "1/s", d.rate)
			}
		}
		ceiling, err := r.bronzeCeiling(ctx, 3, n)
		if err != nil {
			return err
		}
		c.row("part of the ceiling", "", rates[0]/ceiling)
		c.row("ceiling: COPY of the same columns from memory", "1/s", ceiling)
		r.say("%s events/s, %.2f of the ceiling (%s/s)", thousands(int64(rates[0])), rates[0]/ceiling, thousands(int64(ceiling)))
		if err := r.peerSink(ctx, c, t, rates[0], false, atLeast(3)); err != nil {
			return err
		}
	}
	return nil
}

func (r *sinkRig) drainBronze(ctx context.Context, t saleTopic, kind string) (sinkDrained, error) {
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return sinkDrained{}, err
	}
	defer drop()
	d, err := r.drainSink(ctx, r.postgresSink(t, dsn, kind, ""))
	if err != nil {
		return d, err
	}
	return d, r.holds(ctx, dsn, "SELECT count(*), sum(seq)::bigint FROM bronze.events", t.n, t.n*(t.n+1)/2)
}

// peerSink takes the same topic through Debezium's JDBC sink, if that is asked for.
func (r *sinkRig) peerSink(ctx context.Context, c caseRows, t saleTopic, rate float64, upsert bool, bound target) error {
	if !r.opts.Peer {
		return nil
	}
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return err
	}
	defer drop()
	got, err := peer.Sink(ctx, peer.SinkOptions{
		Kafka: r.brokers(), Registry: r.registry.URL, Postgres: dsn, Dir: r.dir, Topic: t.name, Table: "sale", N: int(t.n), Tasks: t.partitions, Upsert: upsert, Key: "sale_id",
		Server: r.postgres.PID(),
	}, func(line string) { r.say("Debezium: %s", line) })
	if err != nil {
		return fmt.Errorf("take the events through Debezium: %w", err)
	}
	rows, sum := t.n, t.n*(t.n-1)/2
	if upsert {
		_, rows, sum = latest(t.n)
	}
	if err := r.holds(ctx, dsn, "SELECT count(*), sum(n)::bigint FROM sale", rows, sum); err != nil {
		return fmt.Errorf("the table of Debezium: %w", err)
	}
	r.report.Versions["debezium jdbc"], r.report.Versions["kafka connect"] = peer.JDBCVersion, peer.ConnectVersion
	c.row("times Debezium's best setting", "", rate/got.EventsPerSecond, bound)
	c.row("times Debezium over its second half", "", rate/got.SecondHalf)
	c.row("Debezium: events a second", "1/s", got.EventsPerSecond)
	c.row("Debezium: over its second half", "1/s", got.SecondHalf)
	c.row("Debezium: CPU per million events, with Postgres", "s", got.CPU+got.ServerCPU)
	c.row("Debezium: peak resident", "MiB", got.PeakMB)
	r.say("Debezium: %s events/s; the sink is %.1f times as fast", thousands(int64(got.EventsPerSecond)), rate/got.EventsPerSecond)
	return nil
}

// guardCase compares the sink with itself without its guard: the function that compares and sets epoch and position does nothing then.
func (r *sinkRig) guardCase(ctx context.Context) error {
	if err := r.warmSinks(ctx); err != nil {
		return err
	}
	t, err := r.sales(ctx, 3, r.opts.Events)
	if err != nil {
		return err
	}
	c := r.report.in("exactly-once guard, Postgres silver, 3 lanes")
	for rep := range r.opts.Reps {
		var rates [2]float64 // without and with
		for i := range 2 {
			on := (i + rep) % 2 // who comes first alternates
			dsn, drop, err := r.database(ctx)
			if err != nil {
				return err
			}
			if err = r.prepareWarehouse(ctx, dsn, t, on == 1); err == nil {
				var d sinkDrained
				d, err = r.drainSink(ctx, r.postgresSink(t, dsn, "off", declareAll))
				rates[on] = d.rate
			}
			drop()
			if err != nil {
				return err
			}
		}
		c.row("cost", "%", 100*(1-rates[1]/rates[0]), atMost(10))
		c.row("events a second with it", "1/s", rates[1])
		c.row("events a second without it", "1/s", rates[0])
		r.say("with the guard %s/s, without %s/s", thousands(int64(rates[1])), thousands(int64(rates[0])))
	}
	return nil
}

// silverTable is what a team would make for the newest states, and staging what COPY fills.
const silverTable = `CREATE TABLE sale (_key text COLLATE "C" PRIMARY KEY, _version bigint NOT NULL, _event_id text, _event_time timestamptz, _deleted boolean NOT NULL,
	n bigint, customer_id text, status text, total numeric(12,2), currency text, quantity bigint, placed_at timestamptz, city text, zip text,
	weight double precision, note text, sale_id text) WITH (fillfactor = 85)`

var silverColumns = []string{"_key", "_version", "_event_id", "_event_time", "_deleted",
	"n", "customer_id", "status", "total", "currency", "quantity", "placed_at", "city", "zip", "weight", "note", "sale_id"}

var silverTypes = []uint32{pgtype.TextOID, pgtype.Int8OID, pgtype.TextOID, pgtype.TimestamptzOID, pgtype.BoolOID,
	pgtype.Int8OID, pgtype.TextOID, pgtype.TextOID, pgtype.NumericOID, pgtype.TextOID, pgtype.Int8OID, pgtype.TimestamptzOID, pgtype.TextOID, pgtype.TextOID,
	pgtype.Float8OID, pgtype.TextOID, pgtype.TextOID}

// silverCeiling is what Postgres can do: rows that are ready in memory, the last of each key in a batch, in order of key, by binary COPY and
// one upsert a batch.
func (r *sinkRig) silverCeiling(ctx context.Context, lanes int, n int64) (float64, error) {
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return 0, err
	}
	defer drop()
	rows := make([][][]byte, lanes)
	for lane, all := range batches(n, lanes, ceilingBatch) {
		for _, batch := range all {
			raw, err := r.copyOf(batch, silverTypes, func(at int64) []any { return silverValues(r.sold.of(at), saleKeyText(saleKey(at)), at) })
			if err != nil {
				return 0, err
			}
			rows[lane] = append(rows[lane], raw)
		}
	}
	sets, list := "", ""
	for i, c := range silverColumns {
		if i > 0 {
			list += ", "
			sets += ", " + c + " = excluded." + c
		}
		list += c
	}
	return r.copyLanes(ctx, dsn, n, rows, []string{silverTable},
		[]string{"CREATE TEMPORARY TABLE stage ON COMMIT DELETE ROWS AS SELECT * FROM sale WITH NO DATA", "SET enable_seqscan = off", "SET jit = off"},
		"COPY stage ("+list+") FROM STDIN (FORMAT binary)",
		"INSERT INTO sale AS t ("+list+") SELECT "+list+" FROM stage ON CONFLICT (_key) DO UPDATE SET "+sets[2:]+" WHERE excluded._version > t._version")
}

func silverValues(s *sale, key string, n int64) []any {
	total := pgtype.Numeric{}
	_ = total.Scan(fmt.Sprintf("%d.%02d", s.cents/100, s.cents%100)) // a number
	stamp, _ := time.Parse(time.RFC3339Nano, saleTime)               // a constant
	return []any{key, n + 1, eventID(n), stamp, false, n, s.customer, s.status, total, s.currency, s.quantity, s.placed, s.city, s.zip, s.weight, s.note, key}
}

var bronzeTypes = []uint32{pgtype.TextOID, pgtype.Int4OID, pgtype.Int8OID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.Int8OID,
	pgtype.TimestamptzOID, pgtype.Int4OID, pgtype.TextOID, pgtype.TextOID, pgtype.ByteaOID}

// bronzeCeiling is the same for events as they came: COPY alone. JSON is text on the wire.
func (r *sinkRig) bronzeCeiling(ctx context.Context, lanes int, n int64) (float64, error) {
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return 0, err
	}
	defer drop()
	rows := make([][][]byte, lanes)
	for from := int64(0); from < n; from += ceilingBatch {
		batch := make([]int64, 0, ceilingBatch)
		for at := from; at < min(from+ceilingBatch, n); at++ {
			batch = append(batch, at)
		}
		raw, err := r.copyOf(batch, bronzeTypes, r.bronzeValues)
		if err != nil {
			return 0, err
		}
		lane := int(from/ceilingBatch) % lanes
		rows[lane] = append(rows[lane], raw)
	}
	const table = `CREATE TABLE events (topic text NOT NULL, partition int NOT NULL, "offset" bigint NOT NULL, key text, type text, event_id text, seq bigint NOT NULL,
		event_time timestamptz NOT NULL, schema_id int, headers json, data json, payload bytea)`
	return r.copyLanes(ctx, dsn, n, rows, []string{table}, nil, "COPY events FROM STDIN (FORMAT binary)", "")
}

func (r *sinkRig) bronzeValues(n int64) []any {
	key, s := saleKeyText(saleKey(n)), r.sold.of(n)
	stamp, _ := time.Parse(time.RFC3339Nano, saleTime) // a constant
	return []any{"bench.sales", int32(0), n, key, "bench.SaleMade", eventID(n), n + 1, stamp, int32(r.schemaID), headersJSON(n), saleJSON(s, key, n), r.sold.append(nil, key, n)}
}

func headersJSON(n int64) string {
	return fmt.Sprintf(`{"ce_id":%q,"ce_source":"/outbox/bench","ce_time":%q,"ce_type":"bench.SaleMade","millrace-seq":"%d"}`, eventID(n), saleTime, n+1)
}

func saleJSON(s *sale, key string, n int64) string {
	return fmt.Sprintf(`{"sale_id":%q,"n":%d,"customer_id":%q,"status":%q,"total":%d.%02d,"currency":%q,"quantity":%d,"placed_at":%q,"city":%q,"zip":%q,"weight":%g,"note":%q}`,
		key, n, s.customer, s.status, s.cents/100, s.cents%100, s.currency, s.quantity, s.placed.Format(time.RFC3339Nano), s.city, s.zip, s.weight, s.note)
}

// copyOf is a stream of COPY in its binary format.
func (r *sinkRig) copyOf(batch []int64, types []uint32, values func(int64) []any) ([]byte, error) {
	m := pgtype.NewMap()
	buf := append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...) // no flags, no extension
	for _, at := range batch {
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(types)))
		for i, v := range values(at) {
			start := len(buf)
			out, err := m.Encode(types[i], pgtype.BinaryFormatCode, v, append(buf, 0, 0, 0, 0))
			if err != nil {
				return nil, fmt.Errorf("encode a row: %w", err)
			}
			buf = out
			binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
		}
	}
	return binary.BigEndian.AppendUint16(buf, 0xffff), nil
}

// copyLanes writes what each lane has, a transaction a stream, all lanes at the same time, and returns events a second.
func (r *sinkRig) copyLanes(ctx context.Context, dsn string, n int64, rows [][][]byte, once, each []string, into, then string) (float64, error) {
	conns := make([]*pgx.Conn, len(rows))
	for lane := range conns {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return 0, fmt.Errorf("connect to PostgreSQL: %w", err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
		conns[lane] = conn
		statements := each
		if lane == 0 {
			statements = append(append([]string{}, once...), each...)
		}
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				return 0, fmt.Errorf("%s: %w", s, err)
			}
		}
		if then == "" {
			continue
		}
		if _, err := conn.Prepare(ctx, "upsert", then); err != nil {
			return 0, fmt.Errorf("prepare the upsert: %w", err)
		}
	}
	began := time.Now()
	var all sync.WaitGroup
	errs := make([]error, len(rows))
	for lane, conn := range conns {
		all.Go(func() { errs[lane] = copyLane(ctx, conn, rows[lane], into, then != "") })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, fmt.Errorf("write rows from memory: %w", err)
		}
	}
	return perSecond(n, time.Since(began)), nil
}

func copyLane(ctx context.Context, conn *pgx.Conn, rows [][]byte, into string, upsert bool) error {
	pg := conn.PgConn()
	for _, raw := range rows {
		if _, err := pg.Exec(ctx, "BEGIN").ReadAll(); err != nil {
			return err
		}
		if _, err := pg.CopyFrom(ctx, bytes.NewReader(raw), into); err != nil {
			return err
		}
		if upsert {
			if _, err := pg.ExecPrepared(ctx, "upsert", nil, nil, nil).Close(); err != nil {
				return err
			}
		}
		if _, err := pg.Exec(ctx, "COMMIT").ReadAll(); err != nil {
			return err
		}
	}
	return nil
}
