// Package fold turns the events of a topic into the states of entities and keeps them in a sink, each event's effect once.
//
// A batch goes this way:
//
//	dead letters   what cannot be decoded, and what belongs to a quarantined key, is put aside
//	load           the states of the keys that are left: recent ones from memory, the others by one Load an entity
//	fold           each event in offset order, unless its version is at or below the state's
//	send           dead letters are acknowledged by Kafka
//	commit         states, events, quarantine marks and position, whole or not at all. Events that the sink refuses (Rejected) are
//	               poison: the batch begins anew, with them put aside
//
// What holds, for any split of a topic into batches, redelivery and change of owner:
//
//  1. The state of a key is the fold of its events in order, each once (promise 4). Folding is deterministic and happens
//     before the store is touched; the store compares epoch and position in the step that writes.
//  2. A bad event does not stop the stream (promise 7). It and the key's later events go to the dead-letter topic in
//     order; the state keeps what came before. The mark on the key is part of the commit, so that a new owner finds it.
//  3. The position passes a dead letter only after it is acknowledged. A crash in between repeats the letter: it is known by
//     topic, partition and offset.
//  4. A version at or below the state's has no effect on the state. Events are handed to sinks that keep them (bronze)
//     as they came.
//  5. Nothing of a topic is applied over what came from another one that had its name before: a mark beside the position tells them apart.
//
// Metrics, all with a label sink: millrace_fold_events_total, millrace_fold_changes_total, millrace_fold_stale_total (events at
// or below the state's version), millrace_fold_dead_letters_total (by class), millrace_fold_quarantined_keys.
//
// The files in the order of reading: sink.go (what a backend implements), fold.go (ownership and the batch), work.go (the states
// within a batch), recent.go (the states between batches), topic.go (which topic a position is of), redrive.go (what was put aside,
// applied after all), history.go and repair.go (keys folded anew from their first events), advance.go (one event, for others), limits.go, metrics.go.
package fold
