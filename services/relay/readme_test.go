package relay_test

import (
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
)

// Whoever is woken up by a relay that has stopped finds in README.md what it said.
func TestTheREADMEKnowsEveryReasonToStop(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, night, found := strings.Cut(string(page), "## At three in the morning")
	if !found {
		t.Fatal("the page has no part for the night")
	}
	for _, reason := range []error{
		relay.ErrCursorMissing, relay.ErrCursorForeign, relay.ErrCursorUnreadable, relay.ErrParkedMissing, relay.ErrParkedForgets,
		relay.ErrParkedUnreadable, relay.ErrAnchoring, relay.ErrNoTransactions, relay.ErrPoison, relay.ErrPartitions, relay.ErrHanging,
		store.ErrOtherSystem, store.ErrOtherTimeline, store.ErrRestored, store.ErrDiverged, store.ErrStandby, store.ErrVanished,
		store.ErrPooler, store.ErrVersion, store.ErrFsyncOff, store.ErrSequence, store.ErrIndex, store.ErrUnlogged, store.ErrPrivilege,
		store.ErrNotMigrated, store.ErrStartedElsewhere,
	} {
		if text := reason.Error(); !strings.Contains(night, text) && !strings.Contains(night, strings.TrimPrefix(text, "the database is ")) &&
			!strings.Contains(night, strings.TrimPrefix(text, "the database ")) {
			t.Errorf("nothing is said of %q", text)
		}
	}
}
