// Package peer runs the benchmark's workload through Debezium, so that the relay can be compared with it on one machine:
// the Debezium connector for PostgreSQL with its outbox event router, in a standalone worker of Kafka Connect. What is
// compared, with which settings and what to mind is told in README.md.
//
// Drain, Latency and Kill each make a database, a slot and a topic of their own on the servers they are given, start a
// worker, measure it from outside, and take away what they made.
//
// # Files, in the order in which a run goes
//
//	options.go   what to run
//	payload.go   the events, unless the caller brings its own
//	outbox.go    database, table, publication, slot; insert.go: rows into it
//	settings.go  the settings of worker and connector, default and tuned
//	worker.go    the worker's process
//	topic.go     what has arrived in Kafka
//	run.go       all of these, and looks at a run from outside
//	drain.go, latency.go, kill.go
//	jdbc.go      Sink: the other end, Debezium's JDBC sink
package peer
