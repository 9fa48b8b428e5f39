// Package matrix puts one sink of each kind, in the real binary on real Kafka, through everything that can go wrong with it, and compares
// what the store holds with the truth: a projection that counts, so that an event that is lost or applied twice shows.
//
// Between the process and a store that is a server there is a wire, which knows where in a batch it is: kill -9, SIGSTOP and a change of
// tables happen at a point and not at a moment.
//
// Every case runs on PostgreSQL; one case on each other kind, as the seed says (SEED sets it). MILLRACE_TEST_FULL=1, which is
// `make test-full`, runs all cases on all kinds. README.md in this folder says what is proved here, and what elsewhere.
//
//	matrix_test.go  the cases, and on which kinds they run
//	rig_test.go     a topic, its truth, the processes; store_test.go: what a store holds; receiver_test.go: the other end of a webhook
//	wire_test.go    the points of a batch
//	kill_test.go    kill -9, a frozen zombie, DDL in mid-batch
//	topic_test.go   duplicates; a topic that is enlarged, re-created, or has lost its beginning; a group without offsets
//	poison_test.go  poison first, last and a whole batch; hostile bytes
//	evolve_test.go  a field that is added to the schema, and a column of it
//	away_test.go    a store that is away for longer than the session
package matrix
