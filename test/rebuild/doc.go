// Package rebuild takes sinks through rebuilds as their users do: the real binary, real Kafka and stores, events that keep coming, and somebody who reads all the
// time and must see no gap, nothing empty and no step back in time (promise 8).
//
// Every test runs on every kind of sink with MILLRACE_TEST_FULL=1, which is `make test-full`; otherwise on some, as the seed says (SEED sets it).
//
//	rig_test.go      a topic, its truth and its load; process_test.go: the sink's process and the commands; store_test.go: what a generation holds
//	reader_test.go   who reads all the time: SQL, search, a cache
//	rollout_test.go  a changed field is planned, refused, accepted, swapped in and rolled back
//	crash_test.go    the process is killed in every state
//	readers_test.go  a report that reads for long, in one transaction
//	repair_test.go   keys folded anew by a process that is killed
//	failed_test.go   poison, a log without its beginning, nobody who could do it
//	purge_test.go    side effects
//	readme_test.go   the walk-through of README.md, typed
package rebuild
