// Package gold builds tables by SQL over a warehouse's silver: models with dependencies, built in full or key by key, after their inputs moved,
// and tested before readers see them.
//
// A model is a file, NAME.sql, that begins with its head: YAML in a comment. All of the head is optional.
//
//	/*
//	about: What each customer has bought.
//	incremental:                              # without it, the model is built in full each time
//	  key: [customer_id]                      # the columns by which rows are replaced
//	  from: {silver.order: [customer_id]}     # which key a row of an input goes into: expressions over its columns
//	tests:
//	  - not_null: [customer_id]
//	  - unique: [customer_id]
//	  - range: {column: revenue, min: 0}      # or max, or both; dates and times as text
//	  - relationship: {column: customer_id, to: silver.customer, field: _key}
//	*/
//	select customer_id, sum(total) as revenue from {{ silver.order }} group by customer_id
//
// Inputs stand in {{ }}: silver.ENTITY, gold.MODEL, bronze.events. That is all there is of a template language; a table of these layers that is
// named without {{ }} is refused, for the model would not run when it moves.
//
// What holds:
//
//  1. Readers see a build whole or not at all. A build, what is remembered of it and the view that shows it are one transaction.
//  2. What fails a test is not seen. Nothing is built from a model that has failed, until it passes: what is downstream is halted.
//  3. A model is built when its file has changed or an input has moved, and not otherwise. An input has moved if it stands elsewhere than when it
//     was built from: positions of its topic, quarantined keys (a redrive changes states and no position), declaration; for a model its build.
//  4. An incremental build gives the rows that a full one would, as long as a row with key k comes only from rows of the inputs in from that have
//     key k there. When an input moved that is not in from, or a changed row has a null in its key, the model is built in full.
//
// What it does not do: a model that asks for the time of day changes without an input that moves, and is not built for it. Sums of floats depend on
// the order of their rows, and so may differ in their last digit; decimals do not.
//
// How an incremental build knows what changed is said in incremental.go. The millrace.gold table has one record a model (record.go).
//
// The metrics, all with labels sink and model: millrace_gold_builds_total{outcome}, millrace_gold_build_seconds, millrace_gold_rows,
// millrace_gold_behind_events, millrace_gold_built_timestamp_seconds, millrace_gold_stopped (failed or halted).
//
// The files in the order of reading: model.go, load.go and scan.go (a file), check.go (its tests), graph.go (all of them); engine.go (what a
// warehouse implements), record.go (what it remembers), plan.go (what is due), build.go and incremental.go (a build), runner.go, status.go, http.go,
// metrics.go. goldtest is the suite that every engine passes.
package gold
