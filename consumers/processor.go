package consumers

import "context"

// Processor is what a consumer does with its events. All calls for one partition come one at a time; those for different
// partitions come at the same time. A Processor that is also an io.Closer is closed when Run ends. fold.Fold is one; a Processor of one's own is a few lines.
//
// Promise 4 is the Processor's to keep: it stores the position Batch.Next together with the effect of the batch, and gives it back
// from Claim. What it cannot store together (a call to somebody's server) happens at least once.
type Processor interface {
	// Claim takes the partition and returns the offset to go on from; -1 means from the beginning. It is called before the
	// partition's first batch and again after ErrFenced and ErrPosition. An owner that was replaced must be refused from
	// then on, with ErrFenced.
	Claim(ctx context.Context, tp TopicPartition) (next int64, err error)
	// Process applies a batch. A nil error means that it and its position are durable. On ErrFenced and ErrPosition the partition is
	// claimed anew; a systemic error stops the consumer; any other error is retried with the same batch, and the partition waits.
	// The context ends when the partition is lost or the time to stop is up.
	Process(ctx context.Context, b Batch) error
	// Release tells that the partition is no longer this process's. Its Process has returned.
	Release(ctx context.Context, tp TopicPartition)
}

// FieldReader is a Processor that says which fields it reads: only those are decoded, the others are checked and left. One that is no
// FieldReader reads all. What was not asked for is to be had all the same, by Event.Fields, at the price of a second decoding.
type FieldReader interface {
	// Reads returns the fields that are read of events of a type, for example "shop.OrderPlaced". all says that every field is, so
	// that names do not count. It is asked once a schema.
	Reads(eventType string) (names []string, all bool)
}
