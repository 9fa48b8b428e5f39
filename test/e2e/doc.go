// Package e2e uses the real binary as a person would who has just installed it: in a folder of their own, with their own schemas and
// projections, against real PostgreSQL, Kafka, Apicurio and Redis. It looks at what is printed, at exit statuses and at logs.
//
//	site_test.go      a person's folder: millrace.yaml, schemas, projections, and the binary in it
//	golden_test.go    what is printed, held against testdata/golden (go test -update writes it)
//	journey_test.go   from an empty folder to answers from the warehouse, the index and the cache
//	opensearch_test.go, postgres_test.go the same answers from sinks on servers, and those servers away
//	export_test.go    topics as Avro files, read back by other libraries
//	replay_test.go, topicreplay_test.go
//	                  events written once more, from the outbox and from a topic
//	init_test.go      from a table to a sink, by what init writes
//	backfill_test.go  a table becomes events while writers are at work and the command is killed
//	parked_test.go    an event that does not fit: its key waits, everything else goes on
//	hostile_test.go   messages that are no events: dead letters
//	webhook_test.go   events posted to a partner, killed in the middle; purges of a CDN
//	config_test.go    mistakes in the configuration, and secrets in it
//	usage_test.go     help, versions, wrong command lines, nothing that answers
//	away_test.go      servers that are away at the start, and later
//	silent_test.go    servers that take connections and say nothing, a stranger's lock
//	demo_test.go      millrace demo, to its end and interrupted
//	gold_test.go      SQL models, built by sinks and by commands
//	nocgo_test.go     the binary without cgo; terminal_linux_test.go: on a terminal
//
// The example domain is a post office, in testdata/post; no other package knows it.
package e2e
