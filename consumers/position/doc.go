// Package position keeps what a sink without a store of its own has to keep of each partition: owner, position and quarantined keys. It keeps them on
// a compacted topic beside the sink's dead letters, __millrace.SINK.position, so that a sink whose effect is elsewhere (a webhook) needs Kafka and nothing else.
//
// The topic has one partition, and its order decides everything:
//
//	claim     a record of the new owner. Its offset is the epoch: of two claims the later one holds
//	state     a record of the owner with its epoch: position and marks, whole. One with another epoch than that of the last claim counts for nothing
//
// Every process reads the topic to its end and on, and takes a record of its own for done when it has read it back: then it knows whether the record counts, for
// all that came before is read as well. So an owner that was replaced is told so by its next commit, however long it was frozen (promise 4).
//
// What holds:
//
//  1. A commit that returned nil is durable (every replica in sync has it) and is where the next owner goes on from.
//  2. Position and marks change together: they are one record.
//  3. The position is never lost by compaction. Each owner writes under a name of its own, so that what a former owner writes late takes the place of
//     nothing; names of former owners are removed once the new one has written down what it took over.
//     A topic that is not only compacted, but deletes what is old, is refused.
//  4. Consumer group offsets are not involved: they expire with a group that is away for long, and can be reset. This topic does neither.
//
// The files in the order of reading: log.go (the owner's side), tail.go (reading to the end and on), record.go (what a record means).
package position
