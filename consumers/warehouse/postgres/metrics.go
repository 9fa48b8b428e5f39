package postgres

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers/fold"
)

type metrics struct {
	commits    prometheus.Counter
	commitTime prometheus.Histogram
	rows       *prometheus.CounterVec // by layer
	ddl        prometheus.Counter
	queries    *prometheus.CounterVec // by outcome
	queryTime  prometheus.Histogram
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
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_warehouse_rows_total", Help: "Rows written, by layer: events to bronze, states to silver.",
		}, []string{"layer"}),
		ddl: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_warehouse_ddl_total", Help: "Changes of silver tables that followed their declarations.",
		}),
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
		reg.MustRegister(m.commits, m.commitTime, m.rows, m.ddl, m.queries, m.queryTime)
	}
	return m
}

// committed counts a batch.
func (m *metrics) committed(c *fold.Commit, bronze bool, took time.Duration) {
	m.commits.Inc()
	m.commitTime.Observe(took.Seconds())
	if bronze {
		m.rows.WithLabelValues("bronze").Add(float64(len(c.Events)))
	}
	states := 0
	for _, changes := range c.Changes {
		states += len(changes)
	}
	m.rows.WithLabelValues("silver").Add(float64(states))
}
