package relay_test

import (
	"testing"

	"github.com/millrace/millrace/services/relay"
)

func TestAnEventReachesItsTopic(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.emit("k1", 1)
		run.untilSeq(1)
		if got := r.committed(r.topic); len(got) != 1 || string(got[0].Key) != "k1" {
			t.Errorf("%v", got)
		}
		run.until("the leader", func(s relay.Status) bool { return s.State == relay.StateLeading && s.T >= 1 })
		if err := run.stop(); err != nil {
			t.Error(err)
		}
	})
}
