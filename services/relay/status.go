package relay

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/outbox/store"
)

// State is what a relay is doing.
type State string

const (
	// StateStandby: another relay leads, or the election cannot be held.
	StateStandby State = "standby"
	// StateStarting: it leads and makes ready to publish.
	StateStarting State = "starting"
	// StateLeading: it publishes.
	StateLeading State = "leading"
	// StateStopped: Run has returned, or was never called.
	StateStopped State = "stopped"
)

// Status is a relay at one instant.
type Status struct {
	Outbox string    `json:"outbox"`
	State  State     `json:"state"`
	Since  time.Time `json:"since"`
	// Reason says what is wrong: what it waits for, or why it stopped. Empty if nothing is.
	Reason string `json:"reason,omitempty"`
	// Paused says that nothing is to be published, who wants it so and since when; nil if not. A paused relay is ready.
	Paused *store.Pause `json:"paused,omitempty"`
	// T, Seq, Row and Last are the cursor's, as committed last by this relay; zero while it does not lead.
	T    int64  `json:"t"`
	Seq  int64  `json:"seq"`
	Row  int64  `json:"row"`
	Last string `json:"last,omitempty"`
	// CursorTime is when the cursor was committed.
	CursorTime time.Time `json:"cursor_time,omitzero"`
	// Backlog counts committed events that are not published yet (at most store.BacklogCap), Oldest is when the oldest of
	// them occurred, Measured when both were looked up in the table.
	Backlog  int64     `json:"backlog"`
	Oldest   time.Time `json:"oldest,omitzero"`
	Measured time.Time `json:"measured,omitzero"`
	// Parked counts the events held back.
	Parked int64 `json:"parked"`
	// Retention is what the table holds.
	Retention RetentionStatus `json:"retention,omitzero"`
	// Rate is events published a second, over the last ten seconds.
	Rate float64 `json:"rate"`
	// Published, Transactions and Restarts count since the process began.
	Published    int64 `json:"published"`
	Transactions int64 `json:"transactions"`
	Restarts     int64 `json:"restarts"`
}

// status collects what Status shows. The loop and the watcher write, anybody reads.
type status struct {
	metrics *metrics
	now     func() time.Time

	mu  sync.Mutex // guards the following
	s   Status
	err error // why Run ended
	// doing is the step that a start is in.
	doing      string
	doingSince time.Time
	meter      meter
	// upper and position complete the committed cursor, for counting the backlog.
	cursor *cursor
	// known is the last one, kept while this relay leads and starts over: for counting the backlog only.
	known *cursor
}

func newStatus(outbox string, m *metrics, now func() time.Time) *status {
	return &status{metrics: m, now: now, s: Status{Outbox: outbox, State: StateStopped, Since: now()}}
}

func (s *status) set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != s.s.State {
		s.s.State, s.s.Since = state, s.now()
	}
	if state == StateStandby || state == StateStopped {
		s.s.Paused, s.known = nil, nil
		s.s.Backlog, s.s.Oldest, s.s.Measured, s.s.Parked, s.s.Retention = 0, time.Time{}, time.Time{}, 0, RetentionStatus{}
		s.metrics.paused(false)
		s.metrics.resigned()
	}
	if state != StateLeading {
		s.cursor = nil
		s.s.T, s.s.Seq, s.s.Row, s.s.Last, s.s.CursorTime = 0, 0, 0, "", time.Time{}
	}
	s.doing = ""
	s.metrics.leads(state == StateLeading)
}

func (s *status) ready(c *cursor) {
	s.set(StateLeading)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(c)
}

func (s *status) at(c *cursor) {
	s.cursor, s.known = c, c
	s.s.T, s.s.Seq, s.s.Row, s.s.Last, s.s.CursorTime = c.T, c.Seq, c.Row, c.Last.String(), c.Time
}

// committed takes a transaction whose commit is known.
func (s *status) committed(c *commit) {
	s.metrics.committed(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(c.cursor)
	s.s.Parked += int64(c.parked - c.released - c.discarded)
	s.s.Published += int64(c.published)
	s.s.Transactions++
	s.meter.add(s.now(), c.published)
	s.metrics.held(s.s.Parked)
}

func (s *status) parked(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Parked = n
	s.metrics.held(n)
}

// paused takes the pause that is in force, and returns the one before.
func (s *status) paused(p *store.Pause) (before *store.Pause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.s.Paused = s.s.Paused, p
	s.metrics.paused(p != nil)
	return before
}

func (s *status) restarted(err error) {
	s.metrics.restarted(cause(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.s.Restarts++
}

func (s *status) stopped(err error) {
	s.set(StateStopped)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// measured takes what was found in the table.
func (s *status) measured(events int64, oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.s.Backlog, s.s.Oldest, s.s.Measured = events, oldest, now
	s.metrics.table.set(events, oldest, now)
}

// committedCursor returns the cursor as committed; nil while this relay does not publish.
func (s *status) committedCursor() *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

// knownCursor returns the cursor that was committed or read last while this relay led; nil before the first.
func (s *status) knownCursor() *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

func (s *status) snapshot() (Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.s
	out.Rate = s.meter.rate(s.now())
	return out, s.err
}

// Status tells what the relay is doing.
func (r *Relay) Status() Status {
	out, err := r.status.snapshot()
	if err == nil {
		err = r.waiting()
	}
	if err != nil {
		out.Reason = err.Error()
	}
	return out
}

// waiting says what the relay waits for; nil if for nothing.
func (r *Relay) waiting() error {
	doing, since := r.status.starting()
	trouble := r.trouble.current()
	if doing == "" {
		return trouble
	}
	step := fmt.Errorf("starting: %s, for %v", doing, since.Round(time.Second))
	if trouble == nil {
		return step
	}
	return fmt.Errorf("%w; %w", step, trouble)
}

// Ready returns nil while the relay publishes or stands by for another that does, and else what is wrong. It is meant for
// a readiness probe.
func (r *Relay) Ready() error {
	s, err := r.status.snapshot()
	switch {
	case err != nil:
		return err
	case s.State == StateStopped:
		return errors.New("not running")
	}
	if err := r.waiting(); err != nil {
		return err
	}
	if s.State == StateStarting {
		return fmt.Errorf("starting since %s", s.Since.Format(time.RFC3339))
	}
	return nil
}
