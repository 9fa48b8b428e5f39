// Package verify compares what a sink holds with what its topics make: every key is folded anew from the topic, up to the positions of one snapshot of the sink,
// and compared with the state that is stored. Where a sink keeps events, its rows are compared with the topic's offsets.
//
// The sink goes on meanwhile. Its states are read twice at most and are never all held: the first reading sums them by bucket (package compare), then one partition
// after the other is folded, and a second reading pairs the keys of those buckets that differ. So what is held is the states of one partition. A topic whose
// events are not spread as Kafka's own clients do (murmur2) is folded as a whole.
//
// What a sink put aside is known from its dead letters and is no difference: events that wait are left out, and a key of which events were given up may be as it is
// with or without them.
//
//	verify.go   Config, Result and the run
//	letters.go  what was put aside
//	topic.go    a topic's partitions, folded
//	settle.go   keys that differ: told apart from those that moved on
//	bronze.go   rows against offsets
//	mend.go     keys folded anew, by the processes of the sink
//	metrics.go  the last result
//	keeper.go   runs by itself now and then; one at a time
//	http.go     runs because somebody asks, and tells how far it is
//
// Metrics, all with the label sink: millrace_verify_differences (and entity; "(bronze)" for events), millrace_verify_timestamp_seconds,
// millrace_verify_duration_seconds.
package verify
