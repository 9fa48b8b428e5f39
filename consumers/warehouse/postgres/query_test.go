package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

// filled is a warehouse with an order.
func filled(t testing.TB) *Warehouse {
	t.Helper()
	w := openAt(t, Config{URL: server(t), Projections: []fold.Projection{orders}})
	total, _ := new(big.Rat).SetString("12345678901234567890.123456789012345678")
	commit(t, w, put("order", tp0, claim(t, w, tp0).Epoch, 0, "o-1", "placed", total, noon, map[string]any{"n": int64(9007199254740993)}, int64(7)))
	return w
}

func TestQueriesAnswerExactly(t *testing.T) {
	t.Parallel()
	w := filled(t)
	cases := []struct {
		sql            string
		columns, types []string
		row            []any
	}{
		{`select * from silver."order"`, []string{"_key", "status", "total", "placed", "lines", "group", "_version", "_event_time"},
			[]string{"TEXT", "TEXT", "NUMERIC(38,18)", "TIMESTAMP WITH TIME ZONE", "JSONB", "BIGINT", "BIGINT", "TIMESTAMP WITH TIME ZONE"},
			[]any{"o-1", "placed", json.Number("12345678901234567890.123456789012345678"), "2026-05-01T12:00:00.123456Z",
				json.RawMessage(`{"n": 9007199254740993}`), json.Number("7"), json.Number("1"), "2026-05-01T12:00:00.123456Z"}},
		{`/* a /* b */ */ -- c` + "\n" + `select _key as a, _key as a from "order";`, []string{"a", "a"}, []string{"TEXT", "TEXT"}, []any{"o-1", "o-1"}},
		{"select count(*) as n from bronze.events -- all of them", []string{"n"}, []string{"BIGINT"}, []any{json.Number("1")}},
		{"select 'nan'::float8 a, '-infinity'::float4 b, 0.1::float4 c, 1e300::float8 d", []string{"a", "b", "c", "d"},
			[]string{"DOUBLE PRECISION", "REAL", "REAL", "DOUBLE PRECISION"}, []any{"NaN", "-Infinity", json.Number("0.1"), json.Number("1e+300")}},
		{"select array[0.10, null] l, row(1, 'a') r, array[[1, 2]] m", []string{"l", "r", "m"}, []string{"NUMERIC[]", "RECORD", "INTEGER[]"},
			[]any{json.RawMessage("[0.10,null]"), json.RawMessage(`{"f1":1,"f2":"a"}`), json.RawMessage("[[1,2]]")}},
		{`select '\x6162'::bytea b, null n, true t`, []string{"b", "n", "t"}, []string{"BYTEA", "TEXT", "BOOLEAN"}, []any{"YWI=", nil, true}},
		{"select date '2024-02-29' d, interval '36 hours' i, timestamptz '2024-02-29 12:00:00+02' z", []string{"d", "i", "z"},
			[]string{"DATE", "INTERVAL", "TIMESTAMP WITH TIME ZONE"}, []any{"2024-02-29", "36:00:00", "2024-02-29T10:00:00Z"}},
		{"with a as (select 1 as x) select x from a", []string{"x"}, []string{"INTEGER"}, []any{json.Number("1")}},
		{"values (1, 'a')", []string{"column1", "column2"}, []string{"INTEGER", "TEXT"}, []any{json.Number("1"), "a"}},
		{"(select 2 as x) union all select 1 order by 1 desc", []string{"x"}, []string{"INTEGER"}, []any{json.Number("2")}},
	}
	for _, c := range cases {
		res, err := w.Query(context.Background(), c.sql, warehouse.Limits{Timeout: time.Minute})
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if !reflect.DeepEqual(res.Columns, c.columns) || !reflect.DeepEqual(res.Types, c.types) || len(res.Rows) == 0 || !reflect.DeepEqual(res.Rows[0], c.row) {
			t.Errorf("%s:\n got %q %q %s\nwant %q %q %s", c.sql, res.Columns, res.Types, res.Rows, c.columns, c.types, c.row)
		}
	}
}

// Whatever a user sends, it changes nothing, ends nobody's session and shows no secret.
func TestOnlyReadingIsAnswered(t *testing.T) {
	t.Parallel()
	w := filled(t)
	for _, sql := range []string{
		"insert into millrace.positions values ('a', 1, 1, 1)", "update millrace.positions set next = 0", "delete from bronze.events", "drop view silver.\"order\"", "truncate bronze.events",
		"create table x (a int)", "create temp table x as select 1", "select 1 as a into x", "alter table bronze.events add column x int", "copy (select 1) to stdout", "copy bronze.events to program 'true'",
		"do $$ begin delete from bronze.events; end $$", "call x()", "begin", "commit", "rollback", "set role postgres", "set transaction read write", "reset all", "lock table bronze.events", "vacuum", "listen x", "notify x",
		"prepare p as select 1", "execute p", "explain analyze delete from bronze.events", "show all", "declare c cursor for select 1", "fetch all from millrace_query", "checkpoint",
		"with x as (delete from bronze.events returning *) select * from x", "with x as (insert into millrace.layout values (1) returning *) select * from x", "select * from bronze.events for update",
		"select 1; select 2", "select 1; drop table bronze.events", "select 1) ; drop table bronze.events; --", "select 1) union (select 1", "select 1 as a) as q(c0); delete from bronze.events; --",
		"select pg_terminate_backend(pid) from pg_stat_activity", "select \"pg_terminate_backend\"(1)", "select PG_CANCEL_BACKEND(1)", `select U&"\0070g_cancel_backend"(1)`, "select pg_catalog . pg_advisory_lock(1)",
		"select set_config('transaction_read_only', 'off', true)", "select pg_sleep(1)", "select pg_read_file('/etc/hostname')", "select pg_ls_dir('.')", "select lo_import('/etc/hostname')", "select nextval('x')",
		"select query_to_xml('delete from bronze.events', true, true, '')", "select pg_notify('a', 'b')", "select pg_logical_emit_message(true, 'a', 'b')", "select pg_reload_conf()", "select * from pg_hba_file_rules()",
		"select /* pg_sleep */ 1", "", ";", "-- nothing", "/* nothing", "sele", "select * from nowhere", "select 1/0", "select $1::int", "select \x00", "select '" + strings.Repeat("x", 70000) + "'",
		"select " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000),
	} {
		res, err := w.Query(context.Background(), sql, warehouse.Limits{Timeout: time.Minute})
		switch {
		case err == nil:
			t.Errorf("%.100s: answered with %q", sql, res.Rows)
		case !errors.Is(err, warehouse.ErrInvalid) && !errors.Is(err, warehouse.ErrRefused):
			t.Errorf("%.100s: got %v, want ErrInvalid or ErrRefused", sql, err)
		}
	}
	res, err := w.Query(context.Background(), `select (select count(*) from bronze.events), (select count(*) from silver."order"), (select max(next) from millrace.positions)`, warehouse.Limits{})
	if want := []any{json.Number("1"), json.Number("1"), json.Number("1")}; err != nil || !reflect.DeepEqual(res.Rows[0], want) {
		t.Errorf("afterwards the warehouse holds %v, %v", res, err)
	}
	commit(t, w, put("order", tp0, claim(t, w, tp0).Epoch, 1, "o-1", "x", nil, nil, nil, nil))
}

func TestQueriesAreLimited(t *testing.T) {
	t.Parallel()
	w := filled(t)
	ctx := context.Background()
	res, err := w.Query(ctx, "select * from generate_series(1, 100000)", warehouse.Limits{MaxRows: 10, Timeout: time.Minute})
	if err != nil || len(res.Rows) != 10 || !res.Truncated {
		t.Errorf("rows: got %v, %v", res, err)
	}
	for _, n := range []int{10, fetchRows, fetchRows + 1} {
		res, err = w.Query(ctx, "select repeat('x', n) from (values ($$1$$)) a, lateral (select 3 as n) b, generate_series(1, "+strconv.Itoa(n)+")", warehouse.Limits{MaxRows: n})
		if err != nil || len(res.Rows) != n || res.Truncated {
			t.Errorf("exactly %d rows: got %v", n, err)
		}
	}
	res, err = w.Query(ctx, "select repeat('x', 1000) from generate_series(1, 1000)", warehouse.Limits{MaxBytes: 10_500})
	if err != nil || len(res.Rows) != 10 || !res.Truncated {
		t.Errorf("bytes: got %v, %v", res, err)
	}
	_, err = w.Query(ctx, "select count(*) from generate_series(1, 1000000000)", warehouse.Limits{Timeout: 200 * time.Millisecond})
	if !errors.Is(err, warehouse.ErrTimeout) {
		t.Errorf("time: got %v", err)
	}
	cctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = w.Query(cctx, "select count(*) from generate_series(1, 1000000000)", warehouse.Limits{})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, warehouse.ErrTimeout) {
		t.Errorf("the asker's own end: got %v", err)
	}
	for range cap(w.slots) {
		w.slots <- struct{}{}
	}
	if _, err := w.Query(ctx, "select 1", warehouse.Limits{Timeout: time.Millisecond}); !errors.Is(err, warehouse.ErrBusy) {
		t.Errorf("too many: got %v", err)
	}
	for range cap(w.slots) {
		<-w.slots
	}
	if _, err := w.Query(ctx, "select 1", warehouse.Limits{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A BI role that sees its own rows only, as the package comment has it.
func TestRowLevelSecurityOnSilver(t *testing.T) {
	t.Parallel()
	url := server(t)
	w := openAt(t, Config{URL: url, Projections: []fold.Projection{orders}})
	c := claim(t, w, tp0)
	commit(t, w, put("order", tp0, c.Epoch, 0, "a", "emea", nil, nil, nil, nil))
	commit(t, w, put("order", tp0, c.Epoch, 1, "b", "apac", nil, nil, nil, nil))
	conn := connect(t, url)
	if one[int](t, conn, "SELECT current_setting('server_version_num')::int") < 150000 {
		t.Skip("PostgreSQL 14 has no views with the rights of who asks")
	}
	run(t, conn, "CREATE ROLE emea")
	t.Cleanup(func() { run(t, conn, "RESET ROLE; DROP OWNED BY emea; DROP ROLE emea") })
	run(t, conn, `ALTER VIEW silver."order" SET (security_invoker = true); GRANT USAGE ON SCHEMA silver, silver_base TO emea;
		GRANT SELECT ON silver."order", silver_base.order_0123456789ab TO emea; ALTER TABLE silver_base.order_0123456789ab ENABLE ROW LEVEL SECURITY;
		CREATE POLICY emea ON silver_base.order_0123456789ab FOR SELECT TO emea USING (status = 'emea')`)
	run(t, conn, "SET ROLE emea")
	if got := one[string](t, conn, `SELECT string_agg(_key, ' ') FROM silver."order"`); got != "a" {
		t.Errorf("the role sees %s", got)
	}
	commit(t, w, put("order", tp0, c.Epoch, 2, "c", "apac", nil, nil, nil, nil)) // the sink is not held to it
}
