package relay

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Causes of a restart.
const (
	causeFenced   = "fenced"   // another relay has taken a transactional id, or the cursor
	causeKafka    = "kafka"    // a broker refused something
	causePostgres = "postgres" // Postgres refused something
	causeTimeout  = "timeout"  // an answer did not come in time
	causeNetwork  = "network"  // a connection was lost or refused
	causeOther    = "other"
)

var causes = []string{causeFenced, causeKafka, causePostgres, causeTimeout, causeNetwork, causeOther}

// cause sorts an error that ended a session.
func cause(err error) string {
	var (
		pg     *pgconn.PgError
		broker *kerr.Error
		netErr net.Error
	)
	switch {
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, errOvertaken):
		return causeFenced
	case errors.As(err, &broker):
		return causeKafka
	case errors.As(err, &pg):
		return causePostgres
	case errors.Is(err, context.DeadlineExceeded):
		return causeTimeout
	case errors.As(err, &netErr):
		return causeNetwork
	}
	return causeOther
}

// metrics are listed in README.md.
type metrics struct {
	published    prometheus.Counter
	parkedTotal  prometheus.Counter
	released     prometheus.Counter
	discarded    prometheus.Counter
	pause        prometheus.Gauge
	transactions prometheus.Counter
	commit       prometheus.Histogram
	transaction  prometheus.Histogram
	publish      prometheus.Histogram
	page         prometheus.Histogram
	parked       prometheus.Gauge
	leader       prometheus.Gauge
	restarts     *prometheus.CounterVec
	trouble      *prometheus.GaugeVec
	table        tableMetrics
	window       windowMetrics
	retention    retentionMetrics
	verified     verifyMetrics
}

// newMetrics registers the metrics of one outbox. A nil reg keeps them to themselves.
func newMetrics(reg prometheus.Registerer, outbox string) (*metrics, error) {
	label := prometheus.Labels{"outbox": outbox}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_relay_" + name, Help: help, ConstLabels: label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_relay_" + name, Help: help, ConstLabels: label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_relay_" + name, Help: help, ConstLabels: label, Buckets: buckets})
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 16)
	m := &metrics{
		published:    counter("events_published_total", "Events committed to their topics."),
		parkedTotal:  counter("events_parked_total", "Events committed to the parked topic."),
		released:     counter("events_released_total", "Events that were parked and then committed to their topics."),
		discarded:    counter("events_discarded_total", "Parked events that an operator had dropped."),
		pause:        gauge("paused", "1 while the outbox is paused and this relay leads."),
		transactions: counter("transactions_total", "Kafka transactions committed."),
		commit:       histogram("commit_seconds", "From asking for a commit to knowing that it is done.", seconds),
		transaction:  histogram("transaction_seconds", "From asking Postgres for a page to knowing that it is committed to Kafka.", seconds),
		publish:      histogram("publish_latency_seconds", "From the time the oldest event of a transaction was inserted to the acknowledgement of its commit to Kafka.", latencyBuckets),
		page:         histogram("page_events", "Events in a Kafka transaction.", prometheus.ExponentialBuckets(1, 4, 9)),
		parked:       gauge("parked", "Events held back now."),
		leader:       gauge("leader", "1 while this relay publishes, else 0."),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_relay_restarts_total", Help: "Starts from the cursor after an error, by cause.", ConstLabels: label},
			[]string{"cause"}),
	}
	m.retention, m.verified = newRetentionMetrics(gauge, counter), newVerifyMetrics(gauge)
	m.table, m.window, m.trouble = newTableMetrics(label, gauge), newWindowMetrics(histogram), newTroubleMetric(label)
	for _, c := range causes {
		m.restarts.WithLabelValues(c)
	}
	return m, m.register(reg)
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.published, m.parkedTotal, m.transactions, m.commit, m.transaction, m.publish,
		m.page, m.parked, m.leader, m.released, m.discarded, m.pause, m.restarts, m.retention,
		m.trouble, m.table.backlog, m.table.oldest, m.table.inFlight, m.table.measured, m.window.events,
		m.verified.differences, m.verified.timestamp, m.verified.duration} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) committed(c *commit) {
	m.transactions.Inc()
	m.commit.Observe(c.ended.Sub(c.asked).Seconds())
	m.released.Add(float64(c.released))
	m.discarded.Add(float64(c.discarded))
	m.window.committed(c)
	if c.published+c.parked == 0 {
		return
	}
	m.published.Add(float64(c.published))
	m.parkedTotal.Add(float64(c.parked))
	m.transaction.Observe(c.ended.Sub(c.began).Seconds())
	m.page.Observe(float64(c.published + c.parked))
	if !c.oldest.IsZero() { // what was parked tells nothing about latency
		m.publish.Observe(max(0, c.ended.Sub(c.oldest).Seconds()))
	}
}

func (m *metrics) held(n int64)           { m.parked.Set(float64(n)) }
func (m *metrics) restarted(cause string) { m.restarts.WithLabelValues(cause).Inc() }

func (m *metrics) leads(yes bool)  { m.leader.Set(one(yes)) }
func (m *metrics) paused(yes bool) { m.pause.Set(one(yes)) }

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
