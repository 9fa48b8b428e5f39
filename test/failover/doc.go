// Package failover puts the outbox's database back in time under a relay, and re-anchors.
//
// Each way in which a database can lose what was published from it is staged on real PostgreSQL servers: an asynchronous standby
// that lacks the last commits is promoted, a dump is restored into another cluster while the relay was behind, an older copy of
// the volume is put back. The relay must stop by itself and say what to do; re-anchoring must list exactly what was lost, and
// change nothing in a dry run; and afterwards, with writers that went on all the time, every event that the surviving database
// committed is in the topic exactly once and in the order of its key.
//
//	world_test.go      an outbox, its writers, its relay
//	checker_test.go    the table held against the topic
//	standby_test.go    failed over to a standby that lacks the last commits, with the real binary
//	restored_test.go   a dump, and an older volume
//	crash_test.go      re-anchoring killed with SIGKILL at every step, and run again
//	unflushed_test.go  PostgreSQL crashes right after it
//	overtaken_test.go  an older volume that has come past the cursor
//	source_test.go     a standby as the source, and PgBouncer
package failover
