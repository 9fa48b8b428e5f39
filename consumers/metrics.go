package consumers

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are listed in the package comment.
type metrics struct {
	lag, position, freshness *prometheus.GaugeVec
	validThrough             prometheus.Gauge
	events, poison           prometheus.Counter
	batchEvents, batchTime   prometheus.Histogram
	retries                  *prometheus.CounterVec
	partitions               prometheus.Gauge
	settled, requests        *prometheus.CounterVec
}

// Classes of failed attempts, as the metric names them.
const (
	failedTransient = "transient"
	failedFenced    = "fenced"
	failedPosition  = "position"
	failedSystemic  = "systemic"
)

// What became of a dead letter, as the metric names it.
const (
	settledApplied = "applied"
	settledDropped = "dropped"
)

func newMetrics(reg prometheus.Registerer, sink string) *metrics {
	labels := prometheus.Labels{"sink": sink}
	partition := []string{"topic", "partition"}
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, partition)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		lag:       gauges("millrace_consumer_lag", "Offsets between the sink's position and the end of the partition."),
		position:  gauges("millrace_consumer_position", "Offset that the sink applies next."),
		freshness: gauges("millrace_consumer_freshness_seconds", "Age of the time up to which the sink holds everything."),
		events:    counter("millrace_consumer_events_total", "Events given to the sink, those that are poison included."),
		poison:    counter("millrace_consumer_undecodable_total", "Records that could not be decoded."),
		batchEvents: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "millrace_consumer_batch_events", Help: "Events in a batch.",
			ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
		batchTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "millrace_consumer_batch_seconds", Help: "Time that the sink took for a batch.",
			ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_consumer_failures_total", Help: "Attempts that failed.",
			ConstLabels: labels}, []string{"class"}),
		partitions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_consumer_partitions", Help: "Partitions owned.", ConstLabels: labels}),
	}
	m.validThrough = prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_consumer_valid_through_timestamp_seconds",
		Help: "Time up to which the sink holds everything, least over the partitions of this process; 0 if it is not known.", ConstLabels: labels})
	m.settled = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_consumer_settled_total",
		Help: "Dead letters that were settled on request.", ConstLabels: labels}, []string{"how"})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_consumer_requests_total",
		Help: "Requests to redrive or discard that were answered.", ConstLabels: labels}, []string{"outcome"})
	for _, how := range []string{settledApplied, settledDropped} {
		m.settled.WithLabelValues(how)
	}
	for _, o := range []Outcome{Done, Stuck, Nothing, Failed} {
		m.requests.WithLabelValues(string(o))
	}
	for _, class := range []string{failedTransient, failedFenced, failedPosition, failedSystemic} {
		m.retries.WithLabelValues(class)
	}
	if reg != nil {
		reg.MustRegister(m.validThrough, m.lag, m.position, m.freshness, m.events, m.poison, m.batchEvents, m.batchTime, m.retries, m.partitions, m.settled, m.requests)
	}
	return m
}

func (m *metrics) assigned(tp TopicPartition, next int64) {
	m.partitions.Inc()
	p := strconv.Itoa(int(tp.Partition))
	m.lag.WithLabelValues(tp.Topic, p)
	m.freshness.WithLabelValues(tp.Topic, p)
	m.position.WithLabelValues(tp.Topic, p).Set(float64(max(next, 0)))
}

func (m *metrics) unassigned(tp TopicPartition) {
	m.partitions.Dec()
	p := strconv.Itoa(int(tp.Partition))
	for _, g := range []*prometheus.GaugeVec{m.lag, m.freshness, m.position} {
		g.DeleteLabelValues(tp.Topic, p)
	}
}

func (m *metrics) applied(b Batch, took time.Duration) {
	m.events.Add(float64(len(b.Events)))
	for i := range b.Events {
		if b.Events[i].Err != nil {
			m.poison.Inc()
		}
	}
	m.batchEvents.Observe(float64(len(b.Events)))
	m.batchTime.Observe(took.Seconds())
}

func (m *metrics) observed(s PartitionStatus) {
	p := strconv.Itoa(int(s.Partition))
	m.lag.WithLabelValues(s.Topic, p).Set(float64(s.Lag))
	m.position.WithLabelValues(s.Topic, p).Set(float64(max(s.Position, 0)))
	if !s.ValidThrough.IsZero() {
		m.freshness.WithLabelValues(s.Topic, p).Set(max(time.Since(s.ValidThrough).Seconds(), 0))
	}
}

func (m *metrics) failed(err error) {
	class := failedTransient
	switch {
	case errors.Is(err, ErrFenced):
		class = failedFenced
	case errors.Is(err, ErrPosition):
		class = failedPosition
	case Classify(err) == Systemic:
		class = failedSystemic
	}
	m.retries.WithLabelValues(class).Inc()
}

// answered counts an answer, and what it settled.
func (m *metrics) answered(a *Answer) {
	m.requests.WithLabelValues(string(a.Outcome)).Inc()
	m.settled.WithLabelValues(settledApplied).Add(float64(a.Applied))
	m.settled.WithLabelValues(settledDropped).Add(float64(a.Dropped))
}

// through sets the time up to which all of the partitions are held.
func (m *metrics) through(partitions []PartitionStatus) {
	var least time.Time
	for i, p := range partitions {
		if i == 0 || p.ValidThrough.Before(least) {
			least = p.ValidThrough
		}
	}
	if least.IsZero() {
		m.validThrough.Set(0)
		return
	}
	m.validThrough.Set(float64(least.UnixMilli()) / 1000)
}
