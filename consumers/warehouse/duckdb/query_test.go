//go:build cgo

package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

// declared is a projection of which only the declaration is used.
type declared struct {
	entity, topic, digest string
	columns               []projection.Column
}

func (d declared) Entity() string               { return d.entity }
func (d declared) Topic() string                { return d.topic }
func (d declared) Digest() string               { return d.digest }
func (d declared) Columns() []projection.Column { return d.columns }
func (d declared) Fold(s projection.State, _ *consumers.Event) (projection.State, error) {
	return s, nil
}
func (d declared) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

var orders = declared{entity: "order", topic: "shop.orders", digest: "0123456789abcdef", columns: []projection.Column{
	{Name: "status", Type: projection.Type{Kind: projection.Text}},
	{Name: "total", Type: projection.Type{Kind: projection.Decimal, Precision: 38, Scale: 18}},
	{Name: "placed", Type: projection.Type{Kind: projection.Timestamp}},
	{Name: "lines", Type: projection.Type{Kind: projection.JSON}},
	{Name: "group", Type: projection.Type{Kind: projection.Int}},
}}

var tp0 = consumers.TopicPartition{Topic: "shop.orders", Partition: 0}

func openAt(t testing.TB, path string, projections ...fold.Projection) *Warehouse {
	t.Helper()
	w, err := Open(Config{Path: path, Projections: projections, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

var noon = time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)

// filled is a warehouse with two orders, one of them deleted, and two events.
func filled(t testing.TB) *Warehouse {
	t.Helper()
	w := openAt(t, filepath.Join(t.TempDir(), "wh.duckdb"), orders)
	c, err := w.Claim(context.Background(), tp0)
	if err != nil {
		t.Fatal(err)
	}
	total, _ := new(big.Rat).SetString("12345678901234567890.123456789012345678")
	state := projection.State{Exists: true, Values: []any{"placed", total, noon, map[string]any{"n": int64(9007199254740993)}, int64(7)}}
	err = w.Commit(context.Background(), fold.Commit{
		TopicPartition: tp0, Epoch: c.Epoch, From: 0, Next: 2,
		Events: []consumers.Event{
			consumers.Event{TopicPartition: tp0, Offset: 0, Key: "o-1", Type: "shop.OrderPlaced", ID: "e1", Seq: 1, Time: noon, Payload: []byte{1}}.
				WithHeaders(map[string]string{"tenant": "a\xff"}).WithFields(map[string]any{"total": total, "note": nil}),
			consumers.Event{TopicPartition: tp0, Offset: 1, Key: "o-2", Type: "shop.OrderDeleted", ID: "e2", Seq: 2, Time: noon}.WithFields(map[string]any{}),
		},
		Changes: map[string][]fold.Change{"order": {
			{Key: "o-1", Stored: fold.Stored{State: state, Version: 1, EventID: "e1", Time: noon}},
			{Key: "o-2", Stored: fold.Stored{Version: 2, EventID: "e2", Time: noon}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestQueriesAnswerExactly(t *testing.T) {
	w := filled(t)
	cases := []struct {
		sql            string
		columns, types []string
		row            []any
	}{
		{`select * from silver.order`, []string{"_key", "status", "total", "placed", "lines", "group", "_version", "_event_time"},
			[]string{"VARCHAR", "VARCHAR", "DECIMAL(38,18)", "TIMESTAMP", "JSON", "BIGINT", "BIGINT", "TIMESTAMP"},
			[]any{"o-1", "placed", json.Number("12345678901234567890.123456789012345678"), "2026-05-01T12:00:00.123456Z",
				json.RawMessage(`{"n":9007199254740993}`), json.Number("7"), json.Number("1"), "2026-05-01T12:00:00.123456Z"}},
		{`from "order" select _key as a, _key as a;`, []string{"a", "a_1"}, []string{"VARCHAR", "VARCHAR"}, []any{"o-1", "o-1"}},
		{"select count(*) as n from bronze.events -- all of them", []string{"n"}, []string{"BIGINT"}, []any{json.Number("2")}},
		{"select data, headers from bronze.events where \"offset\" = 0", []string{"data", "headers"}, []string{"JSON", "JSON"},
			[]any{json.RawMessage(`{"note":null,"total":12345678901234567890.123456789012345678}`), json.RawMessage("{\"tenant\":\"a\ufffd\"}")}},
		{"select 'nan'::double as a, '-infinity'::float as b, 0.1::float as c, 1e300 as d", []string{"a", "b", "c", "d"},
			[]string{"DOUBLE", "FLOAT", "FLOAT", "DOUBLE"}, []any{"NaN", "-Infinity", json.Number("0.1"), json.Number("1e+300")}},
		{"select [1, null] as l, {'a': 0.1::decimal(38,18)} as s, map {'k': 1} as m", []string{"l", "s", "m"},
			[]string{"INTEGER[]", "STRUCT(a DECIMAL(38,18))", "MAP(VARCHAR, INTEGER)"},
			[]any{json.RawMessage("[1,null]"), json.RawMessage(`{"a":0.100000000000000000}`), json.RawMessage(`{"k":1}`)}},
		{"select 170141183460469231731687303715884105727 as h, 18446744073709551615::ubigint as u, 'ab'::blob as b, null as n", []string{"h", "u", "b", "n"},
			[]string{"HUGEINT", "UBIGINT", "BLOB", "INTEGER"}, []any{json.Number("170141183460469231731687303715884105727"), json.Number("18446744073709551615"), "YWI=", nil}},
		{"select date '2024-02-29' as d, time '01:02:03' as t, interval 36 hour as i, timestamptz '2024-02-29 12:00:00+02' as z", []string{"d", "t", "i", "z"},
			[]string{"DATE", "TIME", "INTERVAL", "TIMESTAMP WITH TIME ZONE"}, []any{"2024-02-29", "01:02:03", "36:00:00", "2024-02-29T10:00:00Z"}},
		{"with a as (select 1 as x) select x from a", []string{"x"}, []string{"INTEGER"}, []any{json.Number("1")}},
		{"values (1, true)", []string{"col0", "col1"}, []string{"INTEGER", "BOOLEAN"}, []any{json.Number("1"), true}},
		{"select sum(a) as s from range(4) t(a), unnest([1, 2]) u", []string{"s"}, []string{"HUGEINT"}, []any{json.Number("12")}},
	}
	for _, c := range cases {
		res, err := w.Query(context.Background(), c.sql, warehouse.Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if !reflect.DeepEqual(res.Columns, c.columns) || !reflect.DeepEqual(res.Types, c.types) || len(res.Rows) == 0 || !reflect.DeepEqual(res.Rows[0], c.row) {
			t.Errorf("%s:\n got %q %q %s\nwant %q %q %s", c.sql, res.Columns, res.Types, res.Rows, c.columns, c.types, c.row)
		}
	}
	for _, sql := range []string{"show tables", "describe silver.order", "summarize silver.order", "select * from duckdb_tables()"} {
		if _, err := w.Query(context.Background(), sql, warehouse.Limits{}); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// No statement of a user reads a file, writes, or changes a setting, whatever it is wrapped in.
func TestQueriesOnlyRead(t *testing.T) {
	w := filled(t)
	dir := t.TempDir()
	t.Setenv("MILLRACE_TEST_SECRET", "hunter2")
	secret := filepath.Join(dir, "secret.csv")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	attacks := []string{
		"select * from read_csv('FILE')", "select * from 'FILE'", "select * from \"FILE\"", "from read_text('FILE')", "from read_blob('FILE')",
		"from read_blob('DB')", "from read_text('DB.wal')", "from read_duckdb('DB')", "from 'DB'", "from read_json('FILE')", "from read_parquet('FILE')", "from parquet_metadata('FILE')",
		"from sniff_csv('FILE')", "from glob('DIR/*')", "from query('select 1')", "from query_table('FILE')", "from json_execute_serialized_sql('{}')",
		"select (select content from read_text('FILE'))", "with x as (from read_text('FILE')) from x", "select 1 where exists (from read_text('FILE'))",
		"from silver.order, lateral (from read_text(status))", "select 1 union all select 1 from read_csv('FILE')", "describe from read_csv('FILE')",
		"summarize from read_csv('FILE')", "select 1 limit (select count(*) from read_text('FILE'))", "select 1 order by (select content from read_text('FILE'))",
		"pivot (from read_csv('FILE')) on column0 using count(*)", "pivot silver.order on status using count(*)",
		"copy (select 1) to 'DIR/out.csv'", "copy bronze.events from 'FILE'", "attach 'DIR/other.db'", "export database 'DIR/x'", "import database 'DIR/x'",
		"install httpfs", "load httpfs", "load 'DIR/x.so'", "set memory_limit='100GB'", "set enable_external_access=true", "reset memory_limit", "pragma threads=64",
		"pragma database_list", "call pragma_database_size()", "call force_checkpoint()", "from checkpoint()", "from force_checkpoint()", "from enable_logging(storage='file')",
		"from truncate_duckdb_logs()", "select write_log('x')", "select sleep_ms(100000)", "select getenv('MILLRACE_TEST_SECRET')", "select current_setting('home_directory')",
		"from duckdb_settings()", "from duckdb_secrets()", "from which_secret('a', 'b')", "from duckdb_extensions()", "select nextval('x')", "select setseed(0.1)",
		"insert into bronze.events values (1)", "delete from millrace.positions", "update millrace.positions set next = 0", "drop view silver.order", "create table x (a int)",
		"create temp table x as select 1", "create or replace temp macro f() as 1", "alter table bronze.events add column x int", "merge into millrace.meta using (select 1) on true when matched then delete",
		"with x as (insert into millrace.meta values ('a', 'b') returning *) from x", "explain analyze delete from millrace.positions", "explain select 1", "prepare p as select 1", "execute p",
		"begin", "commit", "rollback", "checkpoint", "vacuum", "analyze", "use bronze", "set variable x = 1", "comment on table bronze.events is 'x'", "detach wh", "truncate bronze.events",
		"select 1; select 2", "select 1; drop table bronze.events", "drop table bronze.events; select 1", "select 1) ; drop table bronze.events; --", "select 1); drop table bronze.events; select (1",
		"select 1) union (select 1", "", ";", "-- nothing", "sele", "select * from nowhere", "select error('x')", "select \x00", strings.Repeat("(", 5000), "select " + strings.Repeat("-", 60000) + "1",
		"select " + strings.Repeat("(select ", 2000) + "1" + strings.Repeat(")", 2000),
	}
	for _, attack := range attacks {
		sql := strings.NewReplacer("FILE", secret, "DIR", dir, "DB", w.path).Replace(attack)
		res, err := w.Query(context.Background(), sql, warehouse.Limits{Timeout: 20 * time.Second})
		switch {
		case err == nil:
			t.Errorf("%.100s: answered with %q", attack, res.Rows)
		case !errors.Is(err, warehouse.ErrInvalid) && !errors.Is(err, warehouse.ErrRefused):
			t.Errorf("%.100s: got %v, want ErrInvalid or ErrRefused", attack, err)
		case strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%.100s: the error holds the secret: %v", attack, err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	res, err := w.Query(context.Background(), "select (select count(*) from bronze.events), (select count(*) from silver.order), (select max(next) from millrace.positions)", warehouse.Limits{})
	if want := []any{json.Number("2"), json.Number("1"), json.Number("2")}; err != nil || !reflect.DeepEqual(res.Rows[0], want) {
		t.Errorf("afterwards the warehouse holds %v, %v", res, err)
	}
	c, err := w.Claim(context.Background(), tp0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(context.Background(), fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, From: 2, Next: 3}); err != nil {
		t.Errorf("afterwards the writer fails: %v", err)
	}
}

// The second line of defence holds without the first: what the guard might overlook meets a transaction that cannot write and a
// database without access to files.
func TestTheEngineRefusesToo(t *testing.T) {
	w := filled(t)
	for _, sql := range []string{
		"insert into millrace.meta values ('a', 'b')", "drop view silver.order", "copy (select 1) to '/tmp/millrace-test-out.csv'",
		"attach '/tmp/millrace-test-other.db'", "set memory_limit='100GB'", "install httpfs", "from read_csv('/etc/hostname')",
	} {
		conn, err := w.db.Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(context.Background(), "BEGIN TRANSACTION READ ONLY"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(context.Background(), sql); err == nil {
			t.Errorf("%s: went through", sql)
		}
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK") // of what has failed already
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueriesAreLimited(t *testing.T) {
	w := filled(t)
	ctx := context.Background()
	res, err := w.Query(ctx, "select * from range(1000000000000)", warehouse.Limits{MaxRows: 10})
	if err != nil || len(res.Rows) != 10 || !res.Truncated {
		t.Errorf("rows: got %d, %v", len(res.Rows), err)
	}
	res, err = w.Query(ctx, "select * from range(10)", warehouse.Limits{MaxRows: 10})
	if err != nil || len(res.Rows) != 10 || res.Truncated {
		t.Errorf("exactly as many rows: got %+v, %v", res, err)
	}
	res, err = w.Query(ctx, "select repeat('x', 1000) from range(1000)", warehouse.Limits{MaxBytes: 10_500})
	if err != nil || len(res.Rows) != 10 || !res.Truncated {
		t.Errorf("bytes: got %d rows, %v", len(res.Rows), err)
	}
	start := time.Now()
	_, err = w.Query(ctx, "select count(*) from range(10000000000) a, range(10000000000) b where a.range % 7 = b.range % 3", warehouse.Limits{Timeout: 200 * time.Millisecond})
	if !errors.Is(err, warehouse.ErrTimeout) || time.Since(start) > 20*time.Second {
		t.Errorf("time: got %v after %s", err, time.Since(start))
	}
	cctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = w.Query(cctx, "select count(*) from range(10000000000) a, range(10000000000) b where a.range % 7 = b.range % 3", warehouse.Limits{})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, warehouse.ErrTimeout) {
		t.Errorf("the asker's own end: got %v", err)
	}
	_, err = w.Query(ctx, "select list(a) from range(3000000000) t(a)", warehouse.Limits{Timeout: time.Minute})
	if !errors.Is(err, warehouse.ErrTooMuch) {
		t.Errorf("memory: got %v", err)
	}
	if _, err := w.Query(ctx, "select 1", warehouse.Limits{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTooManyQueriesWaitAndThenAreRefused(t *testing.T) {
	w := filled(t)
	for range cap(w.slots) {
		w.slots <- struct{}{}
	}
	if _, err := w.Query(context.Background(), "select 1", warehouse.Limits{Timeout: time.Millisecond}); !errors.Is(err, warehouse.ErrBusy) {
		t.Errorf("got %v", err)
	}
	for range cap(w.slots) {
		<-w.slots
	}
	if _, err := w.Query(context.Background(), "select 1", warehouse.Limits{}); err != nil {
		t.Error(err)
	}
}
