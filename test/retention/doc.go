// Package retention shows that letting published rows leave the outbox loses nothing, repeats nothing and keeps keys in
// order, with leaves entered, left and emptied many times a second under a crowd of writers.
//
// The writers and the ledger are those of package history. The truth cannot be read from the outbox, which is being
// emptied: a trigger of the test copies each row, in its writer's transaction, into a table of the test's.
//
// A checker that never fails proves nothing: each guard is taken away once, and the checker must find it out.
//
// The random test prints its seed; MILLRACE_RETENTION_SEED sets it, MILLRACE_RETENTION_COMMITS the length.
package retention
