// Package duckdb keeps the warehouse in a DuckDB file: bronze, silver, positions, and read-only SQL over them.
//
//	bronze.events          every event as it came: topic, partition, "offset", key, type, event_id, seq, event_time, schema_id,
//	                       headers and data as JSON, payload (the Avro binary); _headers where JSON does not tell the headers byte for byte.
//	                       Config.Bronze leaves data out, or all of it
//	silver.ENTITY          a view: one row for each entity that exists: _key, the declared columns, _version, _event_time
//	silver_base.*          the tables behind it, named ENTITY_ and the beginning of the declaration's digest;
//	                       deleted entities stay as stubs with _deleted, so that a late event does not bring them back
//	millrace.positions     topic, partition, next (offset), epoch
//	millrace.quarantine    topic, partition, key, "offset"
//	millrace.entities      which table each view shows, and the digest it was made for
//	gold.MODEL             a view, and gold_base.* the tables behind it; millrace.gold what is remembered of each (package gold)
//	millrace.left_out      entities that are no longer declared, and how far their topics were applied then
//
// Each generation is a file of its own with all of that, gold included: warehouse.duckdb, then warehouse.g2.duckdb (generation.go). Readers ask the process
// that has the files open, so that it decides which one answers.
//
// The promises, and where they are kept:
//
//   - Promise 4: events, states, quarantine and position of a batch are one transaction; in it the position row is compared and
//     set, epoch included (writer.go). A state is replaced only by one of a greater version (table.go), or of an equal one where
//     a commit says so (fold.Commit.Replace).
//   - A changed declaration is another generation: Open refuses it, for its states have to be rebuilt (schema.go), unless nothing was applied yet.
//   - Promise 8: a snapshot is a transaction that reads (snapshot.go): states and positions of one moment, piece by piece, while commits go on. Events come back as the
//     records that they were (bronze.go).
//
// One goroutine writes. It takes what several lanes have ready into one transaction, for MERGE costs by the batch. Lanes convert
// their values before they queue, so a value that does not fit fails its own batch alone. DuckDB locks its file to one process:
// who wants to read asks this one (query.go), and is held to statements that read (guard.go). Models are built beside the writer, on a
// connection of their own (gold.go): they read silver as of one moment, and write where nobody else does.
//
// The metrics: millrace_warehouse_commits_total, millrace_warehouse_commit_seconds, millrace_warehouse_group_batches,
// millrace_warehouse_rows_total{layer}, millrace_warehouse_queries_total{outcome}, millrace_warehouse_query_seconds.
//
// What was surprising:
//
//   - Preparing "a; b" with a context runs a. A query is parsed on its own first.
//   - With external access switched off, the database's own file can still be read as a blob: table functions are let through by
//     name.
//   - A JSON value read through the driver loses digits: JSON columns keep their exact values in the column _exact.
//   - The driver has the whole answer of a query in memory before the first row is seen: what is large is read by ranges of rows, or of offsets.
//   - Opening one path twice in a process gives the same database, without an error.
//
// DuckDB needs cgo. Without it the package builds and Open says so.
package duckdb
