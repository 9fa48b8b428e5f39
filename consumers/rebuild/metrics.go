package rebuild

import "github.com/prometheus/client_golang/prometheus"

// Metrics tell how far a rebuild is; see the package comment.
type Metrics struct {
	state                                      *prometheus.GaugeVec
	events                                     prometheus.Counter
	remaining, rate, lag, throttled, different prometheus.Gauge
	rebuild                                    string // the id of the one that was counted last, and what of it
	counted                                    int64
}

// NewMetrics registers the metrics of a sink's rebuilds. reg may be nil.
func NewMetrics(reg prometheus.Registerer, sink string) *Metrics {
	labels := prometheus.Labels{"sink": sink}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &Metrics{
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_rebuild_state",
			Help: "1 for the state in which the sink's rebuild is, 0 for the others; of the process that leads.", ConstLabels: labels}, []string{"state"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_rebuild_events_total",
			Help: "Offsets that new generations have worked off.", ConstLabels: labels}),
		remaining: gauge("millrace_rebuild_remaining", "Offsets that the new generation has still to work off."),
		rate:      gauge("millrace_rebuild_rate", "Offsets a second that the new generation has worked off lately."),
		lag:       gauge("millrace_rebuild_lag", "Offsets that the generation which serves has still to apply, as the rebuild sees it."),
		throttled: gauge("millrace_rebuild_throttled", "1 while the new generation is held back: by its rate, for the live sink, or paused."),
		different: gauge("millrace_rebuild_different", "States that differed when the generations were last compared, in what no declaration has changed."),
	}
	m.show(nil)
	if reg != nil {
		reg.MustRegister(m.state, m.events, m.remaining, m.rate, m.lag, m.throttled, m.different)
	}
	return m
}

// show shows a rebuild; nil for none.
func (m *Metrics) show(b *Rebuild) {
	if m == nil {
		return
	}
	if b == nil {
		b = &Rebuild{}
	}
	for _, s := range states {
		m.state.WithLabelValues(string(s)).Set(truth(b.State == s))
	}
	p := b.Progress
	m.remaining.Set(float64(max(p.Total-p.Events, 0)))
	m.rate.Set(p.Rate)
	m.lag.Set(float64(p.Lag))
	m.throttled.Set(truth(p.Throttled != ""))
	if b.ID != m.rebuild {
		m.rebuild, m.counted = b.ID, p.Events
	}
	m.events.Add(float64(max(p.Events-m.counted, 0)))
	m.counted = max(m.counted, p.Events)
	different := int64(0)
	if b.Comparison != nil {
		for _, e := range b.Comparison.Entities {
			different += e.Different
		}
	}
	m.different.Set(float64(different))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
