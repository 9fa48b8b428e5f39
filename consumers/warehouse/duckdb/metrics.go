//go:build cgo

package duckdb

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commits      prometheus.Counter
	commitTime   prometheus.Histogram
	groupBatches prometheus.Histogram
	rows         *prometheus.CounterVec // by layer
	queries      *prometheus.CounterVec // by outcome
	queryTime    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		commits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_warehouse_commits_total", Help: "Transactions committed to the warehouse.",
		}),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_warehouse_commit_seconds", Help: "Time of a transaction, from its first row to its commit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		groupBatches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_warehouse_group_batches", Help: "Batches of lanes that share a transaction.",
			Buckets: []float64{1, 2, 3, 4, 6, 8, 12, 16, 32},
		}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_warehouse_rows_total", Help: "Rows written, by layer: events to bronze, states to silver.",
		}, []string{"layer"}),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_warehouse_queries_total", Help: "SQL queries of users, by outcome.",
		}, []string{"outcome"}),
		queryTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_warehouse_query_seconds", Help: "Time of a user's query.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
	}
	for _, layer := range []string{"bronze", "silver"} {
		m.rows.WithLabelValues(layer)
	}
	for _, o := range []string{"ok", "invalid", "refused", "timeout", "too_much", "busy", "error"} {
		m.queries.WithLabelValues(o)
	}
	if reg != nil {
		reg.MustRegister(m.commits, m.commitTime, m.groupBatches, m.rows, m.queries, m.queryTime)
	}
	return m
}
