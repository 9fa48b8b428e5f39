package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/crashpoint"
)

// Relay publishes the events of one outbox. Its methods are safe for concurrent use.
type Relay struct {
	cfg     Config
	pg      *pgx.ConnConfig
	retry   backoff
	status  *status
	trouble *troubles
	point   func(string)
	// refused holds the size of batches that topics refused although they should take it. It belongs to the loop.
	refused map[string]int
	// told is when a parked event was logged last. It belongs to the loop.
	told time.Time
	// noRequests says that the outbox knows no requests, and that this was logged. It belongs to sessions.
	noRequests bool
	// toldStep is the slow step of a start that was logged last. It belongs to sessions.
	toldStep string
	// holds says whether the leadership at hand is still held. It belongs to Run.
	holds func() error
	// patience is how long polls may take. It belongs to sessions.
	patience *patience
	// pins are the events that no leaf may be emptied under.
	pins pins
	// lead takes the place of the election in tests; nil otherwise.
	lead func(ctx context.Context) (*leadership, error)
}

// New checks the configuration and returns a relay that does nothing before Run. The error names the field at fault.
func New(cfg Config) (*Relay, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	pg, err := pgx.ParseConfig(cfg.Postgres)
	if err != nil {
		return nil, fmt.Errorf("relay: postgres: %w", err)
	}
	if pg.ConnectTimeout == 0 {
		pg.ConnectTimeout = connectTimeout
	}
	dialPostgres(pg)
	m, err := newMetrics(cfg.Metrics, cfg.Outbox)
	if err != nil {
		return nil, fmt.Errorf("relay: metrics: %w", err)
	}
	return &Relay{
		cfg: cfg, pg: pg, retry: backoff{min: cfg.RetryMin, max: cfg.RetryMax},
		status: newStatus(cfg.Outbox, m, time.Now), trouble: newTroubles(cfg.Logger, m.inTrouble), point: crashpoint.Reach,
		refused: map[string]int{}, patience: newPatience(cfg.PollTimeout),
	}, nil
}

// Run stands by until this relay is the leader, then publishes until ctx ends or leadership is lost, and stands by again.
// Trouble with Postgres, Kafka or the registry is waited out. It returns nil after ctx has ended, and an error only when
// an operator must decide (a *StopError, or one for which store.NeedsOperator is true): going on could lose events or
// publish them twice.
func (r *Relay) Run(ctx context.Context) error {
	r.cfg.Logger.Info("relay started")
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("relay %s: %w", r.cfg.Outbox, err)
	}
	r.status.stopped(err)
	r.cfg.Logger.Info("relay stopped")
	return err
}

func (r *Relay) run(ctx context.Context) error {
	for {
		r.status.set(StateStandby)
		lead, err := r.standBy(ctx)
		if err != nil {
			return stopping(err)
		}
		r.cfg.Logger.Info("relay leads")
		r.holds = lead.holds
		err = r.work(lead.ctx)
		lead.end()
		r.trouble.forget("stream", "registry", "lock")
		if ctx.Err() != nil || mustStop(err) {
			return stopping(err)
		}
		r.cfg.Logger.Warn("relay has lost its leadership and stands by", "err", context.Cause(lead.ctx))
	}
}

// stopping keeps of err what an operator must hear.
func stopping(err error) error {
	if mustStop(err) {
		return err
	}
	return nil
}

// work runs sessions, one after the other, while ctx lasts, and watches the table meanwhile.
func (r *Relay) work(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	watch := r.watch(ctx, fail)
	defer watch.stop()
	verify := r.verifies(ctx)
	defer verify.stop()
	err := r.sessions(ctx)
	if found := context.Cause(ctx); mustStop(found) && !mustStop(err) {
		return found
	}
	return err
}

func (r *Relay) sessions(ctx context.Context) error {
	attempt := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := r.session(ctx, attempt == 0)
		if err == nil || mustStop(err) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > calmAfter {
			attempt = 0
		}
		r.status.restarted(err)
		r.trouble.report("stream")(err)
		if r.retry.wait(ctx, attempt) != nil {
			break
		}
		attempt++
	}
	return nil
}

// calmAfter is how long a session must have lasted for the next pause to be a short one again.
const calmAfter = 10 * time.Second

// session starts from the cursor and publishes until something goes wrong, or ctx ends.
func (r *Relay) session(ctx context.Context, tell bool) error {
	r.status.set(StateStarting)
	slow := r.tellSlow(ctx)
	s, err := r.start(ctx)
	slow()
	if err != nil {
		return err
	}
	r.toldStep = ""
	defer s.close()
	r.status.ready(s.cursor)
	if tell {
		r.cfg.Logger.Info("relay publishes", "t", s.cursor.T, "seq", s.cursor.Seq, "row", s.cursor.Row)
	}
	defer s.requests.serve(ctx)()
	retain := r.retain(ctx)
	defer retain.stop()
	work, cancel := outlive(ctx, r.cfg.StopTimeout)
	defer cancel()
	err = s.run(ctx, work)
	if err != nil {
		s.topics.limits.learn(err)
		s.abort()
	}
	return err
}

// committed implements reporter.
func (r *Relay) committed(c *commit) {
	r.status.committed(c)
	r.spans(c)
	for _, id := range c.free { // not before: an unknown outcome would want the rows again
		r.pins.drop(id)
	}
	if p := c.bad; p != nil && c.ended.Sub(r.told) >= tellParkedEvery {
		r.told = c.ended
		r.cfg.Logger.Warn("event parked", "topic", p.Topic, "key", p.Key, "event_id", p.EventID, "type", p.Type,
			"reason", p.Reason, "field", p.Field, "detail", p.Detail)
	}
}

// tellParkedEvery is how often a parked event is logged; the list of all is on the parked topic.
const tellParkedEvery = time.Minute

// outlive returns a context that ends d after ctx has.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errStopTimeout)
		case <-done:
		}
	})
	return work, func() {
		stop()
		close(done)
		cancel(context.Canceled)
	}
}

var errStopTimeout = errors.New("not finished within StopTimeout")
