package faults

import (
	"fmt"
	"testing"
	"time"
)

// Promises 1 to 3: nothing invented, nothing lost, in order, exactly once - over kill -9 at every named point, while writers write.
// Each of the killed relays takes over from the one that was killed before it.
func TestPromise3KilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: []string{"page_size: 20"}})
	stop := w.writing(3, 10*time.Millisecond)
	for i, at := range []struct {
		point string
		times int
	}{
		{"first", 1},      // the first start is recorded, nothing is committed
		{"produced", 1},   // the very first transaction
		{"produced", 4},   // records sent, the commit before it perhaps under way
		{"committing", 3}, // before the commit is asked for
		{"fence", 1},      // takeover: nothing is fenced
		{"committed", 1},  // committed, and nobody knows
		{"fence", 2},      // takeover: one id is fenced, the other is not
		{"committed", 4},
		{"fenced", 1}, // takeover: both are, the cursor is not read
		{"produced", 3},
	} {
		r := w.start(fmt.Sprintf("relay-%d", i), crashAt(at.point, at.times))
		r.waitKilled()
		t.Logf("%d events committed: killed at %s:%d", w.log.events(), at.point, at.times)
	}
	stop()
	w.start("last")
	w.finish()
}
