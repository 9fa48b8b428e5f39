package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
)

// metrics are listed in the package comment.
type metrics struct {
	ok, transient, systemic, poison prometheus.Counter
	seconds                         prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, sink string) *metrics {
	labels := prometheus.Labels{"sink": sink}
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_webhook_answers_total",
		Help: "Requests by what their answer means.", ConstLabels: labels}, []string{"class"})
	m := &metrics{
		ok: answers.WithLabelValues("ok"), transient: answers.WithLabelValues("transient"),
		systemic: answers.WithLabelValues("systemic"), poison: answers.WithLabelValues("poison"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "millrace_webhook_seconds",
			Help: "Time from a request to its answer, or to there being none.", ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12)}),
	}
	if reg != nil {
		reg.MustRegister(answers, m.seconds)
	}
	return m
}

func (m *metrics) answered(err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	switch class := consumers.Classify(err); {
	case err == nil:
		m.ok.Inc()
	case class == consumers.Systemic:
		m.systemic.Inc()
	case class == consumers.Poison:
		m.poison.Inc()
	default:
		m.transient.Inc()
	}
}
