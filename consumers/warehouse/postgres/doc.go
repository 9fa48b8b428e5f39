// Package postgres keeps the warehouse in a PostgreSQL database: bronze, silver, positions, and read-only SQL over them.
//
//	bronze.events          a view: every event as it came: topic, partition, "offset", key, type, event_id, seq, event_time, schema_id,
//	                       headers and data as JSON, payload (the Avro binary)
//	silver.ENTITY          a view: one row for each entity that exists: _key, the declared columns, _version, _event_time
//	bronze_base.events     the table behind it, with _headers where JSON does not tell the headers byte for byte
//	silver_base.*          the tables behind the entities, named ENTITY_ and the beginning of the declaration's digest;
//	                       deleted entities stay as stubs with _deleted, so that a late event does not bring them back
//	millrace.positions     topic, partition, next (offset), epoch
//	millrace.quarantine    topic, partition, key, "offset"
//	millrace.entities      the table of each entity, and what it was made for
//	gold.MODEL             a view, and gold_base.* the tables behind it; millrace.gold what is remembered of each (package gold)
//	millrace.left_out      entities that are no longer declared, and how far their topics were applied then
//	millrace.layout        the version of all this, and a count of the changes of tables
//
// Generations after the first have bronze_base_g2, silver_base_g2 and millrace_g2 for their own; bronze, silver and gold are the readers', and show the one that
// serves: millrace.serving says which. Serve leads all views to another one's tables in one transaction (generation.go, views.go), Remove drops a
// generation's tables (remove.go).
//
// With Config.Schema the names of the schemas begin with it, so that several warehouses can live in one database. The database should
// be the warehouse's own, not the application's.
//
// The promises, and where they are kept:
//
//   - Promise 4: events, states, quarantine and position of a batch are one transaction; in it the position row is compared and
//     set, epoch included (layout.sql: advance). A state is replaced only by one of a greater version (table.go), or of an equal
//     one where a commit says so (fold.Commit.Replace).
//   - Promise 8: while views are led on no commit is at work, and the positions of both generations are compared; whoever has a snapshot from before is waited
//     for. A snapshot of ours is a transaction that reads (snapshot.go); events come back as the records that they were (records.go).
//   - A commit that was sent is waited for, although the caller's context ends. When the outcome stays open all the same, for the connection
//     was lost, the position tells at the next try: the batch is refused with consumers.ErrPosition, or it was never applied.
//   - A process that is frozen in mid-commit keeps nobody waiting: a claim ends its connection (claim.go).
//   - A declaration that has changed is followed in place where rows can follow: columns are added, types widened, a column is never
//     dropped (evolve.go). Anything else is another generation: Open refuses it with ErrRebuild, unless nothing was applied yet.
//
// Each lane writes on a connection of its own, in one round trip a batch: everything from BEGIN to COMMIT is sent while the rows are still
// being made (burst.go). Rows go by binary COPY into a staging table that is the connection's own, and from there into silver, in the order
// of the keys. Lanes of different partitions write at the same time.
//
// How values are kept: text, bigint, boolean, double precision, bytea, date, timestamptz (UTC, microseconds), interval, numeric(p,s), arrays
// of these, and jsonb for records and for lists in lists. What Postgres cannot hold or give back as it was - a null character in a text,
// which stands there as U+FFFD; whether a number in jsonb was 1 or 1.0 - is in _exact too, for the next fold. Keys of more than 2,000
// bytes stand in _key as their beginning and a hash, and wholly in _long_key. Names of more than 63 bytes end in a hash.
//
// Readers: GRANT USAGE ON SCHEMA silver and SELECT on its views is all that a BI tool needs. So that a role sees its own rows only, let
// the view use the rights of who asks (PostgreSQL 15), and give the table a policy; the sink owns the table and is not held to it:
//
//	ALTER VIEW silver."order" SET (security_invoker = true);
//	GRANT USAGE ON SCHEMA silver, silver_base TO emea;
//	GRANT SELECT ON silver."order", silver_base.order_0123456789ab TO emea;
//	ALTER TABLE silver_base.order_0123456789ab ENABLE ROW LEVEL SECURITY;
//	CREATE POLICY emea ON silver_base.order_0123456789ab FOR SELECT TO emea USING (region = 'emea');
//
// Grants and settings of a view outlive changes of its table and the change to another generation, whose tables get the grants and policies of those before.
//
// What a role needs: to own the five schemas (with gold also gold and gold_base), or CREATE on the database to make them, which a second generation takes. With
// pg_read_all_stats Serve waits for those transactions only that matter, without it for every one that is open in the database. synchronous_commit may be off for it: rows and
// position are lost together then, and read from Kafka again; claims are durable all the same.
//
// The metrics: millrace_warehouse_commits_total, millrace_warehouse_commit_seconds, millrace_warehouse_rows_total{layer},
// millrace_warehouse_ddl_total, millrace_warehouse_queries_total{outcome}, millrace_warehouse_query_seconds.
//
// The files in the order of reading: config.go, warehouse.go (Open, Close), schema.go and layout.sql, entity.go, evolve.go, table.go,
// views.go, names.go; conn.go, burst.go, commit.go, bronze.go, encode.go, numeric.go, exact.go (a batch on its way); claim.go, load.go, decode.go;
// generation.go, remove.go,
// snapshot.go, records.go (rebuilding); query.go, guard.go, answer.go (SQL of users); gold.go, gold_publish.go (models); classify.go, errors.go, metrics.go.
//
// What was surprising:
//
//   - COPY within a sequence of the extended protocol works, although no client library offers it: what follows CopyDone is run
//     without a Sync in between.
//   - A forced plan looks so dear to the planner that it compiles it: jit is switched off with enable_seqscan.
//   - CREATE OR REPLACE VIEW takes the view's settings away (security_invoker among them), CREATE SCHEMA IF NOT EXISTS asks for the
//     right to make one although it is there, and a column named xmin cannot be had in any quotes.
//   - A read-only transaction does not keep functions from doing something: pg_terminate_backend, set_config and advisory locks go
//     through. The guard looks for their names.
//   - A transaction that is REPEATABLE READ finds the newest tables by their names and sees the rows of its own beginning: a view that was led to
//     a table filled since looks empty to it. So gold replaces rows where it can, and changes views only when their columns change.
//   - An advisory lock outlives the end of its connection, as its client sees that, by a moment.
package postgres
