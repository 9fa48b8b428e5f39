package fold

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrTooManyQuarantined stops a sink whose quarantine grows past its limit: so many bad keys are the fault of the declaration or of
// the writers, and putting everything aside would hide it. It is systemic. What was counted has not been put aside.
var ErrTooManyQuarantined = errors.New("too many keys to quarantine")

// errNotOwned is a fault of the caller: a batch of a partition that was not claimed, or was released.
var errNotOwned = errors.New("partition is not claimed")

// errNoKey makes an event poison that names no entity.
var errNoKey = errors.New("the record has no key that can name an entity")

// Rejected is what a Sink's Commit returns when it finds events that it can never take, such as what somebody's server answers 400 to. Nothing of the
// commit is stored then. The events are put aside as poison, with what stands behind them, and the rest is committed anew; where they are being redriven
// they stay where they are. An offset that was not among the commit's events changes nothing.
type Rejected struct {
	// Events says by offset what is wrong with an event.
	Events map[int64]error
}

// Error tells how many there are, and what is wrong with the first.
func (r *Rejected) Error() string {
	if len(r.Events) == 0 {
		return "the sink refuses no event"
	}
	first := slices.Min(slices.Collect(maps.Keys(r.Events)))
	return fmt.Sprintf("the sink refuses %d events, the first at offset %d: %v", len(r.Events), first, r.Events[first])
}

// refusals adds what an error rejects to what was rejected before. again is false if the error rejects nothing new.
func refusals(err error, before map[int64]error) (all map[int64]error, again bool) {
	var r *Rejected
	if !errors.As(err, &r) {
		return before, false
	}
	all = maps.Clone(before)
	if all == nil {
		all = map[int64]error{}
	}
	maps.Copy(all, r.Events)
	return all, len(all) > len(before)
}

// NotStored says of an error of a Sink's Commit that nothing of the commit was stored, nor will be. A redrive is then tried again as it is, by the same owner and after the
// pause that the error asks for; otherwise the partition is claimed anew, for a commit with an unchanged position is not told apart from its repetition. It returns
// nil for nil.
func NotStored(err error) error {
	if err == nil {
		return nil
	}
	return &notStored{err}
}

type notStored struct{ err error }

func (n *notStored) Error() string { return n.err.Error() }
func (n *notStored) Unwrap() error { return n.err }
