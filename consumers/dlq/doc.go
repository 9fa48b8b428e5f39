// Package dlq looks at the dead letters of a sink, and asks the sink's processes to apply or to drop them.
//
// A sink puts the events that it cannot apply on its dead-letter topic, and with them the later events of their keys. Which of them
// are pending follows from that topic and from the control topic, where requests and answers stand: the sink itself, which may be a
// file that another process holds, is never asked. A request is a record as well. It stays until the process that owns the partition
// has answered it, however long no process runs; package consumers says how it is carried out.
//
//	filter.go  which letters, and which keys
//	ledger.go  what the control topic says: settled, stuck, asked for
//	fate.go    what became of each letter
//	list.go    letters and quarantined keys
//	fate.go    what became of every event that was put aside, for who repeats it
//	ask.go     requests, and waiting for their answers
package dlq
