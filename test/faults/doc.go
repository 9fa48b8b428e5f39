// Package faults stages failures and counts afterwards.
//
// The real relay runs as a process of its own, and reaches PostgreSQL, Kafka and the registry through proxies that slow down,
// swallow, cut and stall (Toxiproxy, in this process). Its binary kills or freezes itself at a named point if the environment
// says so. Writers record every transaction that PostgreSQL confirmed; at the end that log is held against what a read_committed
// consumer finds in the topic: nothing lost, nothing twice, nothing invented, no inversion of a key.
//
//	world_test.go      an outbox, its servers behind gates, its relays: where a test begins
//	gate_test.go       a proxy and its toxics; wire_test.go lets one wait for a request of the Kafka protocol
//	broker_test.go     a broker that sends whoever comes through a gate back through it
//	relay_test.go      a relay as a process, and what it says of itself
//	writers_test.go    transactions and the log of those that were committed
//	checker_test.go    the topic against the log; the checker is shown every fault it must find
//	points_*_test.go   killed and frozen at named points
//	kafka_*_test.go    brokers, networks, topics
//	postgres_rig_test.go
//	                   a server of one's own, a relay's sessions on it, strangers' transactions
//	postgres_proxy_test.go
//	                   a proxy that speaks PostgreSQL's protocol, and refuses
//	postgres_*_test.go sessions ended, restarts, networks, timeouts, strangers, refusals, crashes with WAL unflushed
//	registry_*_test.go the registry away, and refusing
//
// Random runs print their seed; SEED sets it.
package faults
