package rebuild

import "github.com/prometheus/client_golang/prometheus"

// Metered holds the metrics of a consumer and its fold, so that they can be shown while their generation serves, and no longer.
type Metered struct{ registry *prometheus.Registry }

func newMetered() *Metered { return &Metered{prometheus.NewRegistry()} }

// Describe implements prometheus.Collector.
func (m *Metered) Describe(ch chan<- *prometheus.Desc) { m.registry.Describe(ch) }

// Collect implements prometheus.Collector.
func (m *Metered) Collect(ch chan<- prometheus.Metric) { m.registry.Collect(ch) }

var _ prometheus.Collector = (*Metered)(nil)
