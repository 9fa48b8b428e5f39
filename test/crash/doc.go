// Package crash kills the real binary while it works, and counts afterwards.
//
// An application writes at changing speed, with rollbacks, long transactions and hot keys. The relay and each sink are processes
// of their own on real PostgreSQL, Kafka, Apicurio and Redis. They get SIGKILL at random moments, sometimes two at once, sometimes
// again while they start. At the end everything must have arrived: what the application's transactions left in its tables is
// held against the topics, the warehouse, the index and the cache, event by event (demo.Prove).
//
// A proof that cannot fail proves nothing, so the same run ends with differences planted on purpose, and each must be found.
//
// Every run prints its seed; SEED sets it. The seed decides whom to kill, when and for how long; how far the processes had come by
// then is up to the machine. A run that fails leaves its folder behind: configuration, data, logs, and what the outbox and
// the topics held.
//
//	world_test.go    one outbox, its relay and sinks: names, files, servers
//	process_test.go  a role as a process, and what it says of itself
//	trade_test.go    the application at work, in bursts and at a pace
//	chaos_test.go    whom to kill, and when
//	end_test.go      caught up, by evidence; the proof; what a failed run leaves
//	states_test.go   what the cache's sink remembers of every entity
//	kill_test.go     the relay and each sink killed at random; planted_test.go: the proof can fail
//	standby_test.go  two relays: the leader is killed or frozen, the other takes over
//	servers_test.go  PostgreSQL and Kafka killed under everybody
package crash
