package consumers

import "context"

// Redriver is a Processor that puts aside the events of quarantined keys and can apply them later. fold.Fold is one. The calls
// come from the lane of the partition, between two batches, with the partition claimed.
type Redriver interface {
	Processor
	// Quarantined returns the offset of the first event of a key that was put aside and is not applied; false if there is none.
	Quarantined(tp TopicPartition, key string) (first int64, ok bool)
	// Redrive applies events that were put aside, and moves or lifts the marks of their keys, together and with the position left
	// where it is. An error that is not systemic and comes from the store is ErrPosition or ErrFenced: whether the store has
	// taken it is not known, and the partition is claimed anew before anything else is done with it.
	Redrive(ctx context.Context, r Redrive) (Redriven, error)
}

// Redrive is a run of events that were put aside.
type Redrive struct {
	TopicPartition
	// Events are those to apply; of one key in offset order, none left out but dropped ones.
	Events []Event
	// Rest says of each key where its quarantine stands when its Events are applied: at the offset of the next event that was
	// put aside, or -1 if there is none and the quarantine is lifted.
	Rest map[string]int64
	// DropPoison are keys whose events below an offset are dropped if they cannot be applied.
	DropPoison map[string]int64
}

// Redriven tells what became of a Redrive.
type Redriven struct {
	// Applied and Dropped count events by key.
	Applied, Dropped map[string]int64
	// Stuck are the keys that stand at an event that cannot be applied; nothing behind it was tried.
	Stuck map[string]StuckAt
}

// StuckAt is an event that cannot be applied, and why.
type StuckAt struct {
	Offset int64
	Reason string
}
