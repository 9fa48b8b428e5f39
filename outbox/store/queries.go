package store

import (
	"strconv"
	"strings"
)

// queries are the statements of one Reader, with the schema's name put in. They are prepared once and keep one plan,
// which no statistics can change: sorts, bitmaps and sequential scans are off, and each reading of the table asks for
// an order that one index alone gives. That is why one transaction's rows are asked for by >= and <=: with =, the
// order of (xid, id) is that of id, which the index on id gives as well, from its beginning.
type queries struct {
	head, open, bounds, page, pageLate, flushed, verify, history, highest, schema, leaves string
	leaf                                                                                  [LeafCount]string // the page of a window that lies in this leaf
	event                                                                                 string            // the table, as pg_get_serial_sequence wants it
}

// forcedPlans is what a Reader sets on its connection. Statistics taken while the table was empty would otherwise
// make a poll read all of it, or walk the id index from its beginning.
const forcedPlans = `
	set enable_seqscan = off; set enable_bitmapscan = off; set enable_tidscan = off;
	set enable_sort = off; set enable_incremental_sort = off; set enable_hashagg = off;
	set enable_mergejoin = off; set enable_hashjoin = off; set enable_memoize = off; set enable_material = off;
	set enable_indexscan = on; set enable_indexonlyscan = on; set enable_nestloop = on; set enable_partition_pruning = on;
	set jit = off; set max_parallel_workers_per_gather = 0; set plan_cache_mode = force_generic_plan;
	set row_security = off; set statement_timeout = 0; set lock_timeout = 0;
	set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off;
	set client_encoding = 'UTF8'; set client_min_messages = warning`

// eventColumnsSQL are an event's, in the order in which decoder reads them. eventBytesSQL is what a row weighs in
// memory, more or less: JSON is taken at its stored size, for its text would have to be made.
const (
	eventColumnsSQL = `e.xid, e.id, e.event_id, e.topic, e.key, e.type, e.schema_fp, e.payload, e.body, e.headers, e.occurred_at`
	eventNamesSQL   = `xid, id, event_id, topic, key, type, schema_fp, payload, body, headers, occurred_at`
	eventBytesSQL   = `256 + octet_length(e.key) + coalesce(octet_length(e.payload), 0)
		+ coalesce(pg_column_size(e.body), 0) + coalesce(pg_column_size(e.headers), 0) as bytes`
)

// headColumns describe the database, in one row of JSON. pg_current_snapshot() is the snapshot that the whole
// statement reads with; the WAL positions are volatile functions and so are read after it was taken. The first
// position covers every transaction that the snapshot sees as completed: each has written its last record before it
// left the list of the running ones. On a standby most of these would raise an error, which tells less than an
// answer.
const headColumns = `jsonb_build_object(
		'upper', pg_current_snapshot()::text,
		'system', (select system_identifier::text from pg_control_system()),
		'recovery', pg_is_in_recovery(),
		'lsn', case when pg_is_in_recovery() then null else pg_current_wal_insert_lsn()::text end,
		'flushed', case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn()::text end,
		'wal_file', case when pg_is_in_recovery() then null else pg_walfile_name(pg_current_wal_insert_lsn()) end`

const headQuery = `select ` + headColumns + `)`

// openQuery takes the upper snapshot, describes the database, and reads the window if it fits into a page: one row
// with the head in its headers and no id, then the events, in no order.
//
//	$1 last.xmax   $2 last.xip   $3 rows a page, plus one   $4 bytes a page   $5 to $12 leaves, see leafFilter
//	$13 the sequence, if it is to say how far it is: where leaves are left out
//
// Fresh rows are those of transactions from last.xmax up to, not including, the snapshot's xmax: without the upper
// end, the rows of a transaction that is still writing would be looked at again in each poll. Late rows are those of
// the transactions that were running in last and no longer are; one that still runs costs nothing.
//
// Promise 5: nothing here waits for the oldest running transaction; who stays open is listed, and its own rows come late.
const openQuery = `
with fresh as materialized (
	select ` + eventColumnsSQL + `, ` + eventBytesSQL + ` from {{schema}}.event e
	where e.xid >= $1::xid8 and e.xid < pg_snapshot_xmax(pg_current_snapshot()) and {{leaves 5}}
	order by e.xid, e.id limit $3::int
), late as materialized (
	select l.* from unnest($2::xid8[]) running(xid)
	cross join lateral (
		select ` + eventColumnsSQL + `, ` + eventBytesSQL + ` from {{schema}}.event e
		where e.xid >= running.xid and e.xid <= running.xid and {{leaves 5}} order by e.xid, e.id limit $3::int
	) l
	where pg_visible_in_snapshot(running.xid, pg_current_snapshot())
	limit $3::int
), found as (
	select * from fresh union all select * from late
), fits as materialized (
	select count(*) < $3::int and coalesce(sum(bytes), 0) < $4::bigint as it from found
)
select null::xid8, null::bigint, null::uuid, null::text, null::text, null::text, null::bytea, null::bytea, null::jsonb,
	` + headColumns + `, 'fits', (select it from fits), 'epoch', (select r.epoch from {{schema}}.ring r where r.singleton),
		'drawn', pg_sequence_last_value(nullif($13::oid, 0)::regclass)), null::timestamptz
union all
select ` + eventNamesSQL + ` from found where (select it from fits)`

// boundsQuery asks once a window where its rows lie: the lowest and highest id of the fresh rows, and the same of
// each late transaction that left rows. It runs after upper was taken; asked before, a lower id could commit in
// between.
//
//	$1 last.xmax   $2 upper.xmax   $3 upper   $4 late transactions   $5 to $12 leaves
//
// The order keeps the fresh rows on the index (xid, id): min and max alone would be answered by walking the id index
// from its ends, past everything that is retained.
const boundsQuery = `
select null::xid8, min(id), max(id) from (
	select e.xid, e.id from {{schema}}.event e
	where e.xid >= $1::xid8 and e.xid < $2::xid8 and pg_visible_in_snapshot(e.xid, (select $3::text::pg_snapshot))
		and {{leaves 5}}
	order by e.xid, e.id
) fresh having count(*) > 0
union all
select late.xid, lowest.id, highest.id from unnest($4::xid8[]) late(xid)
cross join lateral (select e.id from {{schema}}.event e where e.xid >= late.xid and e.xid <= late.xid and {{leaves 5}} order by e.xid, e.id limit 1) lowest
cross join lateral (select e.id from {{schema}}.event e where e.xid >= late.xid and e.xid <= late.xid and {{leaves 5}} order by e.xid desc, e.id desc limit 1) highest`

// freshRows walks the id index over the window's stretch of it.
//
//	$1 after   $2 highest id of the window's fresh rows   $3 last.xmax   $4 upper   $5 rows a page, plus one
//	$7 to $14 leaves
const freshRows = `
	select ` + eventColumnsSQL + `, ` + eventBytesSQL + ` from {{schema}}.event e
	where e.id > $1::bigint and e.id <= $2::bigint
		and e.xid >= $3::xid8 and pg_visible_in_snapshot(e.xid, (select $4::text::pg_snapshot)) and {{leaves 7}}
	order by e.id limit $5::int`

// lateRows probes each late transaction for its next rows: never more than a page of each, however many it has.
//
//	$15 late transactions   $16 after
const lateRows = `
	select l.* from unnest($15::xid8[]) late(xid)
	cross join lateral (
		select ` + eventColumnsSQL + `, ` + eventBytesSQL + ` from {{schema}}.event e
		where (e.xid, e.id) > (late.xid, $16::bigint) and e.xid <= late.xid and {{leaves 7}} order by e.xid, e.id limit $5::int
	) l
	order by l.id limit $5::int`

// pageQuery cuts the rows where they pass the bytes of a page; the row that passes them is the last.
//
//	$6 bytes a page
const pageQuery = `
select ` + eventNamesSQL + ` from (
	select ` + eventNamesSQL + `, sum(bytes) over (order by id rows unbounded preceding) - bytes as before from ({{rows}}) e
) e where before < $6::bigint order by id`

// leafPageQuery reads a page out of one leaf, where all of the window's rows are: no other leaf is opened, and the rows
// come straight from the index. Over rows of 400 bytes pageQuery took the server more than twice the time. $1 to $5 are
// those of freshRows; the reader cuts the page by its bytes.
const leafPageQuery = `
select ` + eventColumnsSQL + ` from {{schema}}.event_{{leaf}} e
where e.id > $1::bigint and e.id <= $2::bigint
	and e.xid >= $3::xid8 and pg_visible_in_snapshot(e.xid, (select $4::text::pg_snapshot))
order by e.id limit $5::int`

const pageLateRows = `
	select * from (` + freshRows + `) fresh union all select * from (` + lateRows + `) late order by id limit $5::int`

const flushedQuery = `select pg_is_in_recovery(),
	case when pg_is_in_recovery() then '0/0'::pg_lsn else pg_current_wal_flush_lsn() end >= $1::text::pg_lsn`

// verifyQuery looks for a row by id, and for a lower id in the row's leaf if that was never emptied.
const verifyQuery = `
select (select e.event_id from {{schema}}.event e where e.id = $1::bigint order by e.id limit 1),
	exists (select from {{schema}}.event e where e.id < $1::bigint and e.id >= $1::bigint >> 32 << 32)
		and not exists (select from {{schema}}.ring r where r.singleton and r.floor > $1::bigint)`

const schemaQuery = `select definition from {{schema}}.schema where fingerprint = $1`

// emitFlush makes a commit that waits for the disk and leaves nothing behind: several statements in one message are
// one transaction.
const emitFlush = `set local synchronous_commit = local; select pg_logical_emit_message(true, 'millrace', '')`

func newQueries(quoted string) queries {
	in := func(query string) string {
		query = strings.NewReplacer("{{leaves 5}}", leafFilter(5), "{{leaves 7}}", leafFilter(7)).Replace(query)
		return strings.ReplaceAll(query, "{{schema}}", quoted)
	}
	var leaf [LeafCount]string
	for i := range leaf {
		leaf[i] = strings.ReplaceAll(in(leafPageQuery), "{{leaf}}", strconv.Itoa(i))
	}
	return queries{
		leaf:     leaf,
		head:     headQuery,
		open:     in(openQuery),
		bounds:   in(boundsQuery),
		page:     in(strings.Replace(pageQuery, "{{rows}}", freshRows, 1)),
		pageLate: in(strings.Replace(pageQuery, "{{rows}}", pageLateRows, 1)),
		flushed:  flushedQuery,
		verify:   in(verifyQuery),
		history:  in(historyQuery),
		highest:  in(`select coalesce((select e.id from {{schema}}.event e order by e.id desc limit 1), 0)`),
		schema:   in(schemaQuery),
		leaves:   in(leavesQuery),
		event:    quoted + ".event",
	}
}
