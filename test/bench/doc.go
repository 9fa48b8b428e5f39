// Package bench measures the relay and the sinks from outside: the real binary as a process of its own, on real servers that
// nobody else uses. Its command is cmd/bench; README.md says what each figure means.
//
// # Files
//
//	run.go, case.go          the cases there are, one after the other
//	report.go                what they have measured, as a table and as JSON
//	rig.go, site.go          servers of the run; an outbox of one's own: database, topic, millrace.yaml
//	relay.go, profile.go     the relay as a process
//	event.go, load.go        events of about 300 bytes; a backlog of them in seconds
//	offsets.go, check.go     when events became visible; whether each is there once and in its order
//	ceiling.go               what the parts could do if a relay cost nothing
//	drain.go, peer.go        the cases: a backlog, and the same through Debezium
//	writers.go, latency.go   writers as an application has them; when their events arrive
//	insert.go                what the relay costs them
//	kill.go, memory.go, start.go, stranger.go
//
//	sinks.go, sinks_merge.go cases of the sinks; what an earlier run has measured of the others
//	sinks_rig.go             the servers that they write to
//	sinks_events.go          events of twelve fields over many keys; topics full of them
//	sinks_process.go         a sink as a process, watched until it has them all
//	sinks_postgres.go, sinks_guard.go, sinks_duckdb.go, sinks_opensearch.go, sinks_bleve.go, sinks_cache.go
//	sinks_invalidate.go      from a commit to a voided cache key
//	sinks_memory.go          a large backlog
//
//	rebuild.go               cases of rebuilding
//	rebuild_store.go         the stores that are rebuilt, and what readers ask them
//	rebuild_watch.go         a rebuild, by the sink's own record
//	rebuild_idle.go          against the drain before it; and what the plan says
//	rebuild_live.go          under live traffic: lag, cut-over, readers
//	rebuild_traffic.go       that traffic: a writer, a reader, and how far the sink is
//
// Package measure holds statistics and what the kernel knows of processes.
package bench
