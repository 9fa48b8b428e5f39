package gold

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	builds    *prometheus.CounterVec // by model and outcome
	buildTime *prometheus.HistogramVec
	rows      *prometheus.GaugeVec
	behind    *prometheus.GaugeVec
	builtAt   *prometheus.GaugeVec
	stopped   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, g *Graph) *metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"model"})
	}
	m := &metrics{
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_gold_builds_total", Help: "Builds of a gold model by this process, by outcome: built, failed.",
		}, []string{"model", "outcome"}),
		buildTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_gold_build_seconds", Help: "Time of a build that succeeded, its tests included.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}, []string{"model"}),
		rows:    gauge("millrace_gold_rows", "Rows of a gold model."),
		behind:  gauge("millrace_gold_behind_events", "Events that the sink has applied since the model was built, of the topics that it follows."),
		builtAt: gauge("millrace_gold_built_timestamp_seconds", "When the model was built last, as a Unix time; 0 if it never was."),
		stopped: gauge("millrace_gold_stopped", "1 while the model has failed or is halted by one that has, else 0."),
	}
	for _, model := range g.Models {
		for _, o := range []string{"built", "failed"} {
			m.builds.WithLabelValues(model.Name, o)
		}
		m.buildTime.WithLabelValues(model.Name)
		for _, g := range []*prometheus.GaugeVec{m.rows, m.behind, m.builtAt, m.stopped} {
			g.WithLabelValues(model.Name)
		}
	}
	if reg != nil {
		reg.MustRegister(m.builds, m.buildTime, m.rows, m.behind, m.builtAt, m.stopped)
	}
	return m
}

func (m *metrics) outcome(o Outcome) {
	if o.State == "built" {
		m.buildTime.WithLabelValues(o.Model).Observe(o.Seconds)
	}
	m.builds.WithLabelValues(o.Model, o.State).Inc()
}

func (m *metrics) state(all []Status) {
	for _, st := range all {
		if st.State == "undeclared" {
			continue
		}
		m.rows.WithLabelValues(st.Model).Set(float64(st.Rows))
		m.behind.WithLabelValues(st.Model).Set(float64(st.Behind))
		built := 0.0
		if !st.BuiltAt.IsZero() {
			built = float64(st.BuiltAt.UnixMilli()) / 1000
		}
		m.builtAt.WithLabelValues(st.Model).Set(built)
		stopped := 0.0
		if st.State == "failed" || st.State == "halted" {
			stopped = 1
		}
		m.stopped.WithLabelValues(st.Model).Set(stopped)
	}
}
