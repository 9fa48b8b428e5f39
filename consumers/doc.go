// Package consumers reads topics as a member of a group and gives the events to a [Processor], in order, each partition in a lane
// of its own.
//
// An event goes this way:
//
//	poll      records of all partitions come from Kafka, committed ones only
//	lane      each partition's wait in a bounded buffer; a full one is not fetched
//	decode    frame, schema of the writer, layout of the reader; one batch ahead of the Processor
//	batch     what is there, up to a number of events and bytes
//	process   the Processor applies the batch and keeps the position with it
//
// What holds:
//
//  1. A partition's records are processed in the order of their offsets by one goroutine (promise 2).
//  2. Where to go on is what the Processor's store says, asked for in Claim before the first record is fetched. The group's offsets
//     are written for monitoring and never read.
//  3. A batch is left behind only when the Processor said that it is durable, or the store that it is applied (promise 4). An
//     offset that the topic no longer has stops the consumer with [ErrOffsetGone]; nothing is skipped.
//  4. An error is transient unless it says otherwise: the lane tries again and the partition waits. A systemic one stops the
//     consumer. What is wrong with one record is in [Event.Err], and the Processor puts it aside (promise 7). A registry that
//     is away makes no record poison.
//  5. A partition that is taken away gets the time to finish the batch in hand; one that is lost is cancelled at once. What
//     runs on regardless is refused by the store's epoch.
//  6. The position passes what carries no event (markers of transactions, aborted records), so that a consumer that has caught
//     up has a lag of exactly 0.
//  7. What somebody asks to be done about a key's dead letters ([Request], on the sink's control topic) is done by the lane of its
//     partition between two batches, and answered. A request is kept until it is answered; done twice it has its effect once.
//  8. A lane that is held ([Consumer.Hold]) stands between two batches at the very offset that was named (promise 8).
//
// Fetching and working have contexts of their own: Run stops the first, gives the second Config.StopTimeout, then leaves the group.
//
// Metrics, all with a label sink: millrace_consumer_lag, millrace_consumer_position and millrace_consumer_freshness_seconds (by topic
// and partition), millrace_consumer_partitions, millrace_consumer_events_total, millrace_consumer_undecodable_total,
// millrace_consumer_valid_through_timestamp_seconds (least over partitions), millrace_consumer_requests_total (by outcome),
// millrace_consumer_settled_total (applied, dropped), millrace_consumer_batch_events, millrace_consumer_batch_seconds, millrace_consumer_failures_total (by class: transient, fenced,
// position, systemic).
//
// The files in the order of reading: event.go, errors.go and processor.go (the contract), config.go, consumer.go (Run and the poll),
// group.go (partitions come and go), topic.go (which topic it is), lane.go, buffer.go and ahead.go (batches), hold.go (lanes that stand), decoder.go, retry.go, seek.go (claiming anew), fetcherr.go, tracing.go (spans), monitor.go (lag,
// freshness, Status), lag.go, deadletter.go, metrics.go;
// letter.go and scan.go (dead letters read), request.go and redriver.go (what can be asked), control.go (requests come, answers go),
// attend.go, redrive.go and repair.go (the lane carries them out), partition.go (one partition, read again).
//
// Not obvious:
//
//   - Polls block rebalances until their records are in the lanes. Otherwise records fetched before a partition was taken away
//     could reach the lane that it has after it was given back, and what lies between would be skipped.
//   - A lane that claims anew cannot seek by itself, for the same reason: the polling goroutine does it between two polls.
//   - The client keeps a partition paused even when it is taken away and given back, so a lane that ends resumes it.
//   - SetOffsets takes -2 for an offset, not for the beginning: the first offset is asked for.
package consumers
