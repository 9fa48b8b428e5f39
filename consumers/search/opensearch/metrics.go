package opensearch

import "github.com/prometheus/client_golang/prometheus"

// metrics are listed in the package comment.
type metrics struct {
	written, unindexed prometheus.Counter
	repeats            prometheus.Counter
	bulkTime           prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	documents := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_search_documents_total", Help: "Documents written, by outcome: indexed as declared (or there already), or kept without their columns.",
	}, []string{"outcome"})
	m := &metrics{
		written: documents.WithLabelValues("written"), unindexed: documents.WithLabelValues("unindexed"),
		repeats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_search_repeats_total", Help: "Documents sent again, for the cluster had no room for them (429, 502, 503, 504).",
		}),
		bulkTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_search_bulk_seconds", Help: "Time of a bulk request.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	if reg != nil {
		reg.MustRegister(documents, m.repeats, m.bulkTime)
	}
	return m
}
