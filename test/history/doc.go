// Package history checks by random histories that the outbox loses nothing, repeats nothing and keeps keys in order.
//
// Many writers do to a real Postgres what applications do: transactions that draw their id early, that are long, that
// roll back whole or to a savepoint, that commit asynchronously; writers of one key take turns on a row lock and
// count there. That counter, in a table of the application's, is the truth: a key's events must come out as 1, 2, 3
// and so on up to it.
//
// A checker that never fails proves nothing. So the traps of the design are put back, each as a reader of a few
// lines, and for each a test shows that the checker finds it out: staged by hand, step by step, and in the random
// run.
//
// Every random test prints its seed; MILLRACE_HISTORY_SEED sets it, MILLRACE_HISTORY_COMMITS the length.
//
//	workload.go       the writers
//	truth.go          what the tables hold after the end
//	ledger.go         what was published, and the verdict
//	follower_test.go  a relay without Kafka, on outbox/store: what is under test
//	traps_test.go     the readers that must be found out
package history
