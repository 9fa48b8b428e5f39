package fold

import (
	"fmt"

	"github.com/millrace/millrace/consumers"
)

// shareKeys is the number of keys from which a batch says something about a share.
const shareKeys = 100

// withinLimits refuses a batch that would put too much aside, before anything of it is.
func (f *Fold) withinLimits(w *work, b consumers.Batch) error {
	fresh := len(w.fresh) + w.keyless
	if fresh == 0 {
		return nil
	}
	if err := f.withinCount(len(w.fresh)); err != nil {
		return fmt.Errorf("%s/%d from %d: %w", b.Topic, b.Partition, b.From, err)
	}
	if keys := w.distinct(b.Events); keys >= shareKeys && float64(fresh) > f.cfg.MaxQuarantinedShare*float64(keys) {
		return consumers.AsSystemic(fmt.Errorf("%s/%d from %d: %d of %d keys are poison, more than the share of %g; first: %s: %w",
			b.Topic, b.Partition, b.From, fresh, keys, f.cfg.MaxQuarantinedShare, w.firstReason(), ErrTooManyQuarantined))
	}
	return nil
}

func (f *Fold) withinCount(fresh int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.quarantinedLocked() + fresh; fresh > 0 && n > max(f.cfg.MaxQuarantined, 0) {
		return consumers.AsSystemic(fmt.Errorf("%d keys would be quarantined, the limit is %d: %w", n, max(f.cfg.MaxQuarantined, 0), ErrTooManyQuarantined))
	}
	return nil
}

// distinct counts the keys of a batch; each poison event without a key counts as one.
func (w *work) distinct(events []consumers.Event) int {
	keys := map[string]struct{}{}
	for i := range events {
		if events[i].HasKey() {
			keys[events[i].Key] = struct{}{}
		}
	}
	return len(keys) + w.keyless
}

// firstReason is the reason of the first poison event.
func (w *work) firstReason() string {
	for _, l := range w.letters {
		if l.Class == consumers.LetterPoison {
			return fmt.Sprintf("offset %d: %s", l.Offset, l.Reason)
		}
	}
	return "none"
}
