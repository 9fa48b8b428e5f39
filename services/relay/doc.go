// Package relay publishes the events of one outbox to Kafka: each committed event once, in the order of its key.
//
// # Promises
//
// They are those of the project; these are the ones that this package upholds, and how.
//
//  1. Nothing invented, nothing lost. What is new is the difference of two snapshots (outbox/store). Nothing is committed
//     to Kafka, and the cursor does not move, before Postgres has flushed what the upper snapshot contains.
//  2. Order. Rows are published by id within a window, and windows one after the other. Nothing of a transaction is sent
//     before every record of the one before is acknowledged. A key's partition follows from the key and a count that
//     never changes.
//  3. Exactly once in Kafka. The cursor is a record in the Kafka transaction of the events it counts. Whoever starts takes
//     both transactional ids, waits until no transaction is open, and reads the cursor then. Transaction t is written
//     with id t mod 2, and t+1 is committed only when t is known to be. A commit whose outcome is not known is never
//     guessed at: both producers are thrown away and the cursor is read again.
//  7. A bad event never stops the stream. It goes to the parked topic, in the same transaction, and so do the later events
//     of its key, in order. Nothing is dropped, and what an operator discards stays on record.
//
// # Files, in the order in which an event passes them
//
//	relay.go, leader.go    stand by, lead, start over; dial.go: connections that notice when they are lost,
//	                       gather.go: the one of the polls, which reads much at once
//	start.go, first.go     what has to be true before the first poll; where the cursor comes from
//	internals.go, topics.go, log.go
//	                       topics are made; their committed records are read back; seq.go looks for the highest version
//	hanging.go             transactions that a killed broker forgot to end
//	loop.go, flight.go     poll, publish: the heart
//	flush.go               nothing is committed that Postgres has not flushed
//	prefetch.go            the next page is read while this one is published; patient.go: none is waited for for ever
//	frame.go, headers.go   rows become records; timetext.go writes their times; target.go remembers the last topic, firstuse.go takes one that none went to before
//	schemaids.go           schemas become registry ids
//	partition.go, batch.go where a record goes, and what it is made in
//	lines.go, parked.go    what cannot be published, and what must wait behind it; readparked.go, parkedindex.go list it
//	requests.go, answer.go what operators ask, and what they are told; ask.go is their side
//	clerk.go, job.go       carries it out between transactions; release.go, discard.go, contents.go, ahead.go
//	poison.go, probe.go    what becomes of a bad event; the registry is asked again when it did not answer
//	show.go, stand.go      one parked event; how an outbox stands
//	wire.go                records become Kafka's record batches; limits.go knows how much each topic takes, stamps.go how old it may be
//	txn.go, send.go        transactions under two ids in turn, sent batch by batch; producer.go does it by franz-go's producer for
//	                       brokers before 4.0
//	delivery.go, atleastonce.go
//	                       which way of publishing; the one without transactions. intent.go: what is announced before it is
//	                       sent, repeat.go: how that is done again
//	commit.go              the commit under way, while the next page is read and sent
//	cursor.go, epoch.go    the record that says what has been published, and which of several counts
//	points.go              where tests stop or kill a relay: by a hook, or in a binary (internal/crashpoint)
//	reanchor.go            goes on after the database was restored: reanchor_read.go, reanchor_change.go; anchoring.go marks
//	                       the cursor meanwhile
//	history.go, vanish.go  signs that the table is not the one that the cursor was taken from, or that a stranger removed rows
//	retain.go, retention.go
//	                       published rows leave the table, a leaf at a time; pins.go keeps those that are still needed
//	replay.go              retained events go out once more, into a topic of their own; no relay is needed
//	status.go, trouble.go, step.go
//	                       what an operator sees; watch.go, inflight.go, meter.go, metrics.go, gauges.go; inspect.go asks without a relay
//	tracing.go             spans of events that their writers trace
//	verify.go, verify_run.go
//	                       the outbox held against its topics: the cut. verify_held.go: what is parked, or was discarded (discarded.go);
//	                       verify_rows.go, verify_topics.go: both sides, as verify_look.go sees an event; verify_sum.go adds up;
//	                       verify_dig.go: what differs; verify_order.go; verify_keep.go does it now and then
//	outside.go             names on Kafka, for tools that look at them from outside
//
// # Why two transactional ids
//
// On one id the broker makes the next transaction wait, some 20 ms by default, until the markers of the last are written.
// With two the next one produces meanwhile. The price is the rule that ties t to its id: without it, two relays which each
// fenced one of the two ids could both commit a t.
//
// # Why several pages in a transaction
//
// In a backlog up to four pages share one, each with its cursor, as long as the first was sent within the last quarter of a second. To the
// brokers a transaction is some 5 ms of work (its markers, its end, the coordinator's log), as much as two thousand events. What concerns
// parked events is published in a transaction of its own, as it is told of by transaction.
//
// # Why batches of our own
//
// franz-go's producer keeps a record, its headers and a promise for each event, encodes them when they are sent, and cannot compress
// one transaction while another is on its way. The relay knows what goes where, and when something fails it begins anew from the
// cursor, so that it needs none of what makes a general producer careful. Encoding events where they are framed took a quarter
// off the CPU of a drain. Connections, coordinators, metadata and taking the ids remain the library's.
//
// # At least once
//
// `delivery: at-least-once` is for brokers without transactions, or that refuse them to this user. It is never chosen by the
// relay itself: without transactions, exactly-once stops with the reason.
//
//   - Nothing is lost, first appearances are in order, and an event has one millrace-seq however often it appears: a page is
//     announced on the cursor topic (its rows, versions and parked events) before its first record is sent.
//   - Nothing is sent before the flush gate, for it cannot be taken back.
//   - After a crash, or an error of the broker, the page at hand (at most PageSize events) is sent again. So does a leader that
//     was frozen while it sent, wakes after a takeover and does not know yet: it looks at the lock's time before each page,
//     and every write to the cursor topic tells it whether somebody else wrote there. What it had in flight are events that its
//     successor sends, too, with the same versions.
//   - An event that such a leader parks late, after its successor's was released, is parked once more.
//   - Millrace's sinks skip a version that they have applied to the key; bronze tables keep each appearance. Other consumers skip by
//     millrace-seq, or ce_id.
//   - A reader sees an event before the cursor counts it: read_committed hides nothing here.
//
// # Metrics
//
// All have the label outbox and are there, at zero, from the start. They are listed in README.md, with what to alert on; a test
// compares that table with what is registered.
//
// # Non-obvious
//
//   - franz-go sends nothing for a transaction without a record. The cursor record is always there.
//   - Where a log ends in markers or aborted records a consuming client does not tell that it has reached the end. Topics
//     are therefore read back by plain fetch requests.
//   - Brokers refuse records dated more than an hour ahead: such an event keeps its time in ce_time and is sent as of now.
//   - The broker's own default keeps records for a week; topics made here keep theirs for ever unless told otherwise.
package relay
