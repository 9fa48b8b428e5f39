// Package store holds all SQL on the tables of an outbox. Applications use package outbox and the relay is built in; this
// package is what the two share.
//
// # Finding what is new
//
// Ids come from a sequence, and sequence order is not commit order, so "id above the last one" loses events. Waiting
// for the oldest running transaction loses none, but lets any long transaction hold up everybody, and in the order of
// transaction ids it can turn round two events of one key. A Reader does neither. It remembers a snapshot, `last`: which
// transactions had completed when it last looked. New is what is visible now and was not visible then:
//
//	xid >= last.xmax OR xid = ANY (last.xip)
//
// published in the order of id. Writers that serialise on a key draw its ids in the order in which they commit.
//
//	loop:
//	    w, page = Open(last)                      one statement: upper snapshot, guards, first page
//	    Check(cursor's Source, w.Source)          or stop: this is another database, or an older one
//	    for each page:                            by id, between bounds asked after upper was taken
//	        Flushed(w), if not ForceFlush         the gate
//	        publish page and {last, upper, position}, as one
//	    last = w.Advance()
//
// # What a Reader guarantees
//
// Cited as guarantee N; Promise N is the whole project's.
//
//  1. A window holds each event that was committed between its two snapshots, once, strictly by id, and no other. A restart
//     with {last, upper, position} reads on in the identical window. (Promises 1 and 2.)
//  2. A transaction that stays open delays its own events and nobody else's. (Promise 5.)
//  3. A page is bounded in rows and in bytes, however many rows one transaction wrote.
//  4. An idle poll looks at a few index pages, whatever is retained, whatever is running, and whatever the statistics say.
//     (Promise 6.)
//  5. A window whose gate is open can no longer be undone by a crash of Postgres. (Promise 1.)
//
// # Not obvious
//
//   - A snapshot's xmax is one more than the latest completed transaction. Transactions from xmax on may be at work
//     already and hold ids below those of others: neither the sequence nor any id seen before upper was taken is a
//     lower bound.
//   - A crash gives transaction ids that never reached the disk to others. Hence the gate: `last` must not see a
//     transaction as completed before the WAL up to the insert position, read after the snapshot, is flushed.
//   - A transaction at work with many rows would be walked over in every poll while nothing else completes, for its
//     rows are from xmax on. Hence the upper end of the range, the new snapshot's xmax: they are walked over once.
//   - xid = x leaves the order of (xid, id) to the index on id as well, and the planner then walks that one from its
//     beginning on leaves that were empty when they were analyzed. Hence >= and <=.
//   - The insert position may point behind the header of a WAL page that nobody has begun. The flushed one gets there
//     with the next record, which ForceFlush writes.
//   - min(id) alone is answered from the id index's end, past everything retained; see boundsQuery.
//   - A Param cast to pg_snapshot is parsed for each row; in a scalar subquery it is parsed once.
//   - A transaction has its xid before it draws an id: xid is the first column of a row. So the next xid, drawn after the
//     sequence has left a leaf, is above that of everybody who can have rows there. That the leaf is empty tells nothing:
//     an INSERT may wait behind the TRUNCATE, its id drawn.
//   - A poll names the leaves as eight parameters: an array would not let the executor leave partitions unopened.
//   - idle_session_timeout ends the session of a leader that is frozen; keepalives do not, the kernel answers them.
//
// # Files
//
// Writing: insert.go, array.go, catalogue.go, needs.go, written.go, lock.go, backfill.go. The relay's side, in the order in which a
// poll goes:
//
//	leader.go     who may read; direct.go: not through a transaction pooler
//	started.go    the record of the first start
//	checks.go     what NewReader refuses; examine.go: all of it at once
//	snapshot.go   pg_snapshot
//	queries.go    the statements, and why they are as they are
//	reader.go     Open, Page, Reopen, the gate
//	head.go       what the database says of itself; guard.go: Check; history.go: what Check cannot see
//	window.go     bounds and Advance
//	decode.go     rows into pages; arena.go: a page's memory; event.go: what comes out
//	reanchor.go   another state of the database is tied to an old cursor; restamp.go: the one UPDATE there is
//	leaves.go     which leaves of the table a poll looks at
//	backlog.go    how far behind, for status; who.go: who leads
//	request.go    what an operator asks, and the answers; pauses
//	blocked.go    who holds a lock that a relay waits for
//	sighting.go   rows that were there and are gone
//	one.go        a single row, for an event that is released; find.go: rows that somebody looks for
//
// Retention, on a connection of its own: retention.go turns the ring of leaves and empties them, by the functions of
// migration 0004; retention_anchor.go puts it right after a re-anchoring.
package store
