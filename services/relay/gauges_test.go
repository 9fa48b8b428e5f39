package relay

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/outbox/store"
)

// gaugesAbove counts the gauges that say something, by name.
func gaugesAbove(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetGauge().GetValue() != 0 {
				out[f.GetName()] += m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// A leader that stands by again takes back what only a leader can tell: its last words would fire alerts for ever.
func TestAStandbyTellsNothingThatOnlyALeaderKnows(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg, "shop")
	if err != nil {
		t.Fatal(err)
	}
	s := newStatus("shop", m, time.Now)
	s.set(StateLeading)
	s.measured(5, time.Now().Add(-time.Hour))
	s.parked(3)
	s.paused(&store.Pause{})
	s.retains(nil, "a dump reads")
	m.table.inFlight.Set(60)
	if told := gaugesAbove(t, reg); len(told) != 8 {
		t.Errorf("a leader tells %v", told)
	}
	s.set(StateStandby)
	if told := gaugesAbove(t, reg); len(told) != 0 {
		t.Errorf("a standby tells %v", told)
	}
}
