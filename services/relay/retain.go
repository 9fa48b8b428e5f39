package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// retainEvery is how often the leaves are looked at; retainFast is the most often, for an Age of seconds. retainIdle is for
	// an outbox that keeps everything: it is only measured.
	retainEvery = 5 * time.Second
	retainFast  = 100 * time.Millisecond
	retainIdle  = time.Minute
	// retainTimeout bounds one look.
	retainTimeout = 20 * time.Second
	// A leaf in use is tried emptyTries times, with pauses of emptyPause, then in the next round.
	emptyTries = 3
	emptyPause = 150 * time.Millisecond
	// tellDelayAfter is how long rows may stay too long before that is logged.
	tellDelayAfter = 10 * time.Minute
)

// RetentionStatus is what the outbox table holds.
type RetentionStatus struct {
	// Since is when the oldest rows may have been written: when the sequence entered their leaf. Zero if there are none, or if
	// that was before anybody wrote it down.
	Since time.Time `json:"since,omitzero"`
	// Bytes is the table's size with indexes.
	Bytes int64 `json:"bytes"`
	// Leaves of the eight hold rows; Ahead are empty and can be used next.
	Leaves int `json:"leaves"`
	Ahead  int `json:"ahead"`
	// Emptied is when a leaf was emptied last.
	Emptied time.Time `json:"emptied,omitzero"`
	// Delayed says why rows stay longer than they should. Empty if they do not.
	Delayed string `json:"delayed,omitempty"`
	// DelayedSince is since when.
	DelayedSince time.Time `json:"delayed_since,omitzero"`
	// Measured is when all this was looked up.
	Measured time.Time `json:"measured,omitzero"`
}

// retainer lets published rows leave, on its own connection and at its own pace. Only the leader runs one; that two do no
// harm is seen to by the functions it calls.
type retainer struct {
	r      *Relay
	policy Retention
	now    func() time.Time
	conn   *pgx.Conn
	told   string // the delay that was logged
	end    context.CancelFunc
	done   sync.WaitGroup
}

// retain starts a retainer; stop ends it and waits.
func (r *Relay) retain(ctx context.Context) *retainer {
	ctx, cancel := context.WithCancel(ctx)
	t := &retainer{r: r, policy: r.cfg.Retention, now: time.Now, end: cancel}
	t.done.Go(func() {
		for {
			t.look(ctx)
			if sleep(ctx, t.pause()) != nil {
				return
			}
		}
	})
	return t
}

func (t *retainer) stop() {
	t.end()
	t.done.Wait()
	t.disconnect()
}

func (t *retainer) disconnect() {
	if t.conn != nil {
		closeConn(t.conn)
		t.conn = nil
	}
}

// pause is long enough to cost nothing, and short enough to turn the ring about when it is due.
func (t *retainer) pause() time.Duration {
	switch {
	case !t.policy.on():
		return retainIdle
	case t.policy.Age > 0:
		return min(max(t.policy.Age/(10*shares), retainFast), retainEvery)
	}
	return retainEvery
}

// look does what is due. What goes wrong is a delay, nothing worse: the next look tries again.
func (t *retainer) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retainTimeout)
	defer cancel()
	c := t.r.status.committedCursor()
	if c == nil {
		return
	}
	ring, delayed, err := t.work(ctx, c.Last)
	if err != nil {
		t.disconnect()
		if ctx.Err() != nil {
			return
		}
		delayed = retainTrouble(err)
	}
	t.tell(t.r.status.retains(ring, delayed))
}

// retainTrouble is an error in words for an operator.
func retainTrouble(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return fmt.Sprintf("%v: grant what migration 0004 names to the relay's role", err)
	}
	return err.Error()
}

// work empties what is due, then turns the ring: the leaf just emptied may be the one that is needed.
func (t *retainer) work(ctx context.Context, last store.Snapshot) (*store.Ring, string, error) {
	if t.conn == nil {
		var err error
		if t.conn, err = t.r.connect(ctx, "retain"); err != nil {
			return nil, "", err
		}
	}
	schema := t.r.cfg.Schema
	if t.policy.on() {
		if _, err := store.TurnRing(ctx, t.conn, schema, false); err != nil {
			return nil, "", err
		}
	}
	ring, err := store.ReadRing(ctx, t.conn, schema)
	if err != nil || !t.policy.on() {
		return &ring, "", err
	}
	todo := t.policy.plan(&ring, last, t.r.pins.in)
	delayed := todo.delayed
	for _, leaf := range todo.empty {
		why, err := t.empty(ctx, &ring, leaf, last)
		if err != nil {
			return nil, "", err
		}
		if why != "" {
			delayed = why
		}
	}
	if todo.turn {
		why, err := t.turn(ctx)
		if err != nil {
			return nil, "", err
		}
		if why != "" && delayed != "" {
			why += "; " + delayed
		}
		if why != "" {
			delayed = why
		}
	}
	if todo.turn || len(todo.empty) > 0 {
		ring, err = store.ReadRing(ctx, t.conn, schema)
	}
	return &ring, delayed, err
}

// empty empties a leaf, or says why it cannot be.
func (t *retainer) empty(ctx context.Context, ring *store.Ring, leaf int, last store.Snapshot) (string, error) {
	before := t.policy.before(&ring.Leaves[leaf], ring.Now)
	for try := 1; ; try++ {
		done, err := store.EmptyLeaf(ctx, t.conn, t.r.cfg.Schema, leaf, last, before)
		switch {
		case err != nil:
			return "", err
		case done == store.Emptied:
			t.r.status.emptied(t.now())
			t.r.cfg.Logger.Debug("leaf emptied", "leaf", leaf, "left", ring.Leaves[leaf].Left, "bytes", ring.Leaves[leaf].Bytes)
			return "", nil
		case done == store.EmptyUnpublished:
			return unpublished(leaf), nil
		case done != store.EmptyLocked:
			return "", nil // another relay is at it, or the ring was turned: the next look sees what there is
		case try == emptyTries:
			return fmt.Sprintf("leaf %d is in use by another session: a dump, a long query, a vacuum", leaf), nil
		}
		if err := sleep(ctx, emptyPause); err != nil {
			return "", err
		}
	}
}

// turn makes new events go to the next leaf, or says why they cannot.
func (t *retainer) turn(ctx context.Context) (string, error) {
	done, err := store.TurnRing(ctx, t.conn, t.r.cfg.Schema, true)
	switch {
	case err != nil:
		return "", err
	case done == store.TurnFull:
		return "every other leaf still holds rows: new events stay in the current one, which grows", nil
	case done == store.TurnLate:
		return "a transaction that has been open since the next leaf was left may still write to it: new events stay in the current one, which grows", nil
	}
	return "", nil
}

// tell logs a delay that lasts, once, and its end.
func (t *retainer) tell(s RetentionStatus) {
	switch {
	case s.Delayed == "" && t.told != "":
		t.r.cfg.Logger.Info("rows leave the outbox again")
		t.told = ""
	case s.Delayed != "" && t.told == "" && t.now().Sub(s.DelayedSince) >= tellDelayAfter:
		t.r.cfg.Logger.Warn("rows stay in the outbox for longer than configured", "since", s.DelayedSince, "reason", s.Delayed)
		t.told = s.Delayed
	}
}

// retains takes what was found in the table; a nil ring leaves what was found before.
func (s *status) retains(ring *store.Ring, delayed string) RetentionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	r := &s.s.Retention
	if delayed == "" {
		r.DelayedSince = time.Time{}
	} else if r.Delayed == "" {
		r.DelayedSince = now
	}
	r.Delayed = delayed
	if ring != nil {
		r.measure(ring, now)
		s.metrics.retention.measured(*r, ring.Now)
	}
	s.metrics.retention.late(delayed != "")
	return *r
}

// measure takes over what the ring says, but for a delay.
func (r *RetentionStatus) measure(ring *store.Ring, now time.Time) {
	r.Measured, r.Bytes, r.Ahead, r.Leaves, r.Since = now, size(ring), ring.Ahead(), 0, time.Time{}
	for n := range store.LeafCount {
		leaf := &ring.Leaves[ring.Before(n)]
		if leaf.NewestXid == 0 {
			continue
		}
		r.Leaves++
		r.Since = leaf.Entered
	}
}

func (s *status) emptied(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Retention.Emptied = at
	s.metrics.retention.emptied.Inc()
}

// retentionMetrics are those about what the table holds.
type retentionMetrics struct {
	bytes, age, ahead, delayed prometheus.Gauge
	emptied                    prometheus.Counter
}

func newRetentionMetrics(gauge func(name, help string) prometheus.Gauge, counter func(name, help string) prometheus.Counter) retentionMetrics {
	return retentionMetrics{
		bytes:   gauge("retained_bytes", "Size of the outbox table on disk, with indexes."),
		age:     gauge("retained_age_seconds", "Time since the sequence entered the oldest leaf that holds rows; 0 if none does."),
		ahead:   gauge("partitions_ahead", "Empty leaves that new events can go to when the current one is left."),
		delayed: gauge("retention_delayed", "1 while rows stay longer than configured, else 0."),
		emptied: counter("leaves_emptied_total", "Leaves of the outbox table emptied."),
	}
}

func (m retentionMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.bytes, m.age, m.ahead, m.delayed, m.emptied}
}

// Describe implements prometheus.Collector.
func (m retentionMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m retentionMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

func (m retentionMetrics) measured(s RetentionStatus, now time.Time) {
	m.bytes.Set(float64(s.Bytes))
	m.ahead.Set(float64(s.Ahead))
	m.age.Set(0)
	if !s.Since.IsZero() {
		m.age.Set(max(0, now.Sub(s.Since).Seconds()))
	}
}

func (m retentionMetrics) late(yes bool) {
	m.delayed.Set(0)
	if yes {
		m.delayed.Set(1)
	}
}
