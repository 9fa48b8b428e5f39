package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// letters is where a feed's dead letters go: to the sink's topic while its generation serves, and otherwise nowhere, for what was decided before is repeated.
//
// Promise 8: a rebuild repeats what was decided about bad events, and decides nothing by itself.
type letters struct {
	real    *consumers.DeadLetterProducer
	decided *decisions // nil for a feed that serves from the start
	serving *atomic.Bool
}

// Send implements fold.DeadLetters.
func (l *letters) Send(ctx context.Context, all []consumers.DeadLetter) error {
	if l.serving.Load() || l.decided == nil {
		return l.real.Send(ctx, all)
	}
	return l.decided.check(ctx, all)
}

// Close closes the producer.
func (l *letters) Close() error { return l.real.Close() }

// process applies a batch without what was dropped, and with what was put aside as such.
func (l *letters) process(ctx context.Context, f *fold.Fold, b consumers.Batch) error {
	if l.decided == nil {
		return f.Process(ctx, b)
	}
	b.Events = l.decided.apply(b.Events)
	for {
		err := f.Process(ctx, b)
		var skip *skipError
		if !errors.As(err, &skip) {
			return err
		}
		b.Events = slices.DeleteFunc(slices.Clone(b.Events), func(ev consumers.Event) bool { return slices.Contains(skip.offsets, ev.Offset) })
	}
}

// skipError names events that are to be left out of a batch: poison that was dropped.
type skipError struct{ offsets []int64 }

func (s *skipError) Error() string {
	return fmt.Sprintf("%d events were dropped before", len(s.offsets))
}

// ErrPoison fails a rebuild: an event cannot be applied, and nobody has decided what is to become of it.
var ErrPoison = errors.New("events cannot be applied to the new generation, and could be to the old one")

// undecided is the error about letters of which nothing is known.
func undecided(all []consumers.DeadLetter) error {
	const shown = 5
	var b strings.Builder
	for i, l := range all {
		if i == shown {
			fmt.Fprintf(&b, "; and %d more", len(all)-shown)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s/%d offset %d key %q: %s", l.Topic, l.Partition, l.Offset, cut(l.Key, 60), cut(l.Reason, 300))
	}
	return consumers.AsSystemic(fmt.Errorf("%w: %s", ErrPoison, b.String()))
}
