package relay

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tableMetrics are what the watcher finds in the database.
type tableMetrics struct {
	backlog, inFlight, measured prometheus.Gauge
	// oldest is the age of oldestAt, when it is asked for: it grows although nobody can measure.
	oldest   prometheus.GaugeFunc
	oldestAt *atomic.Int64 // nanoseconds since 1970; 0 for none
}

func newTableMetrics(label prometheus.Labels, gauge func(name, help string) prometheus.Gauge) tableMetrics {
	at := new(atomic.Int64)
	return tableMetrics{
		backlog:  gauge("backlog_events", "Committed events that are not published yet, from the table; counted up to a limit."),
		inFlight: gauge("oldest_in_flight_xid_age_seconds", "Age of the oldest transaction of the database cluster that has an id and has not ended."),
		measured: gauge("measured_timestamp_seconds", "When the backlog was measured last, in seconds since 1970; 0 if it was not."),
		oldestAt: at,
		oldest: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "millrace_relay_oldest_unpublished_age_seconds",
			Help:        "Age of the oldest committed event that is not published yet, from the table; 0 if there is none.",
			ConstLabels: label,
		}, func() float64 { return age(at.Load()) }),
	}
}

func age(nanoseconds int64) float64 {
	if nanoseconds == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, nanoseconds)).Seconds())
}

func (m tableMetrics) set(events int64, oldest, now time.Time) {
	m.backlog.Set(float64(events))
	m.measured.Set(float64(now.UnixMilli()) / 1000)
	if oldest.IsZero() {
		m.oldestAt.Store(0)
		return
	}
	m.oldestAt.Store(max(1, oldest.UnixNano()))
}

// reset is for a relay that does not lead: what it measured is not its own to tell any more.
func (m tableMetrics) reset() {
	m.backlog.Set(0)
	m.inFlight.Set(0)
	m.measured.Set(0)
	m.oldestAt.Store(0)
}

// windowMetrics count the events of windows, each of which is one or more transactions.
type windowMetrics struct {
	events prometheus.Histogram
	open   int // events of the window at hand
}

func newWindowMetrics(histogram func(name, help string, buckets []float64) prometheus.Histogram) windowMetrics {
	return windowMetrics{events: histogram("window_events", "Events that one snapshot added to the one before.", prometheus.ExponentialBuckets(1, 8, 9))}
}

// committed takes a transaction of new events. A window ends with the transaction whose cursor stands between two.
func (m *windowMetrics) committed(c *commit) {
	m.open += c.published + c.parked - c.released
	if c.cursor.inWindow() || m.open <= 0 {
		return
	}
	m.events.Observe(float64(m.open))
	m.open = 0
}

// troubleParts are what a relay can be in trouble with.
var troubleParts = []string{"election", "stream", "registry", "lock"}

func newTroubleMetric(label prometheus.Labels) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_relay_trouble", Help: "1 while something does not work and is tried again, by part.", ConstLabels: label,
	}, []string{"part"})
	for _, part := range troubleParts {
		v.WithLabelValues(part)
	}
	return v
}

// inTrouble is what troubles tell changes to.
func (m *metrics) inTrouble(part string, yes bool) { m.trouble.WithLabelValues(part).Set(one(yes)) }

// resigned takes back what only a leader can tell.
func (m *metrics) resigned() {
	m.table.reset()
	m.held(0)
	m.window.open = 0
	m.retention.measured(RetentionStatus{}, time.Time{})
	m.retention.late(false)
}

// latencyBuckets reach from a quarter of a millisecond to three hours.
var latencyBuckets = func() []float64 {
	all := prometheus.ExponentialBuckets(0.00025, 2, 18)
	return append(all, 60, 120, 300, 900, 3600, 10_800)
}()
