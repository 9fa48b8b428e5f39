// Package compare says whether two stores hold the same states, or a store those that its topics make, key by key and at one cut.
//
// Keys are spread over partitions (as the topic's are) and, within one, over buckets; of each bucket a sum is kept of the hashes of its states. Where the
// sums are equal, so are the states, and nothing of them was held: two stores of any size are compared in one pass each and a few MiB. Only the keys of
// buckets that differ are paired, in a second pass, at about 170 bytes a key (with a key of 36 bytes) and no more than Options.MaxKeys at a time.
//
// The hash is the first half of a SHA-256 over key, version and the columns that must be equal, in the exact form of projection.EncodeState; sums are mod
// 2^128, so that a state held twice shows.
//
//	comparison.go  the results
//	plan.go        which columns must be equal, and which the declarations make in another way
//	digest.go      the hash of a state
//	tally.go       sums by partition and bucket
//	pairs.go       the keys of buckets that differ, paired
//	generations.go two snapshots at one cut
//	audit.go       a store, and what should be in it
//	reload.go      states that moved while they were read
//	changes.go     the same, of declarations alone
//	tell.go        values for a person
package compare
