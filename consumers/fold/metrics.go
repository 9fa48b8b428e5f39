package fold

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
)

// metrics are listed in the package comment.
type metrics struct {
	events, changes, stale, poison, behind prometheus.Counter
	quarantined                            prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, sink string) *metrics {
	labels := prometheus.Labels{"sink": sink}
	letters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_fold_dead_letters_total",
		Help: "Events put on the dead-letter topic.", ConstLabels: labels}, []string{"class"})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		events:  counter("millrace_fold_events_total", "Events applied."),
		changes: counter("millrace_fold_changes_total", "States written."),
		stale:   counter("millrace_fold_stale_total", "Foldings left out because the state had the version already."),
		poison:  letters.WithLabelValues(consumers.LetterPoison),
		behind:  letters.WithLabelValues(consumers.LetterQuarantined),
		quarantined: prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_fold_quarantined_keys",
			Help: "Keys in quarantine in the partitions of this process.", ConstLabels: labels}),
	}
	if reg != nil {
		reg.MustRegister(m.events, m.changes, m.stale, letters, m.quarantined)
	}
	return m
}

func (m *metrics) letters(letters []consumers.DeadLetter) {
	for _, l := range letters {
		if l.Class == consumers.LetterPoison {
			m.poison.Inc()
		} else {
			m.behind.Inc()
		}
	}
}

func (m *metrics) batch(w *work) {
	m.events.Add(float64(len(w.applied)))
	m.stale.Add(float64(w.stale))
	for i := range w.projections {
		m.changes.Add(float64(w.changed(i)))
	}
}
