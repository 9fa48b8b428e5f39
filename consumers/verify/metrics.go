package verify

import "github.com/prometheus/client_golang/prometheus"

// events is the entity under which differences of kept events are counted.
const events = "(bronze)"

type metrics struct {
	differences *prometheus.GaugeVec
	timestamp   prometheus.Gauge
	duration    prometheus.Gauge
}

// newMetrics makes the metrics of a sink; reg may be nil.
func newMetrics(reg prometheus.Registerer, sink string, entities []string) *metrics {
	labels := prometheus.Labels{"sink": sink}
	m := &metrics{
		differences: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_verify_differences", Help: "Keys (of the entity (bronze): events) that the last comparison of the sink with its topics found to differ.", ConstLabels: labels,
		}, []string{"entity"}),
		timestamp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_verify_timestamp_seconds", Help: "When the last comparison began, in Unix time; 0 before the first.", ConstLabels: labels,
		}),
		duration: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_verify_duration_seconds", Help: "How long the last comparison took.", ConstLabels: labels,
		}),
	}
	for _, e := range entities {
		m.differences.WithLabelValues(e)
	}
	if reg != nil {
		reg.MustRegister(m.differences, m.timestamp, m.duration)
	}
	return m
}

// done takes a result over. One of some entities says nothing of the others.
func (m *metrics) done(r *Result) {
	for entity, c := range r.Entities {
		m.differences.WithLabelValues(entity).Set(float64(c.Different))
	}
	if r.Bronze != nil {
		n := int64(0)
		for _, b := range r.Bronze {
			n += b.differences()
		}
		m.differences.WithLabelValues(events).Set(float64(n))
	}
	m.timestamp.Set(float64(r.At.UnixNano()) / 1e9)
	m.duration.Set(r.Took.Seconds())
}
