package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// held are transactions that stay open: a stranger's, which has written another table and so has a transaction id, and one that
// has written an event.
type held struct {
	conns []*pgx.Conn
}

// hold opens both; event is the number of the event.
func (s *site) hold(ctx context.Context, event int64) (*held, error) {
	if _, err := s.pool.Exec(ctx, "CREATE TABLE stranger (id int)"); err != nil {
		return nil, fmt.Errorf("make a stranger's table: %w", err)
	}
	h := &held{}
	statements := []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO stranger VALUES (1)", nil},
		{"INSERT INTO outbox.event (topic, key, type, schema_fp, payload) VALUES ($1, $2, $3, $4, $5)",
			[]any{s.topic, keyOf(event), Order{}.EventType(), s.rig.maker.schema.Fingerprint[:], s.rig.maker.append(nil, event, 0)}},
	}
	for _, st := range statements {
		conn, err := pgx.Connect(ctx, s.dsn)
		if err != nil {
			return h, errors.Join(fmt.Errorf("hold a transaction: %w", err), h.close(ctx))
		}
		h.conns = append(h.conns, conn)
		_, err = conn.Exec(ctx, "BEGIN")
		if err == nil {
			_, err = conn.Exec(ctx, st.sql, st.args...)
		}
		if err != nil {
			return h, errors.Join(fmt.Errorf("hold a transaction: %w", err), h.close(ctx))
		}
	}
	return h, nil
}

// commit lets the held event go.
func (h *held) commit(ctx context.Context) error {
	if _, err := h.conns[1].Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit the held event: %w", err)
	}
	return nil
}

func (h *held) close(ctx context.Context) error {
	var errs []error
	for _, c := range h.conns {
		errs = append(errs, c.Close(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// strangerEvents bounds the backlog of this case: it is drained twice in each repetition, and ratios show with less.
const strangerEvents = 500_000

// strangerCase measures drain and latency while foreign transactions are held open for the whole run, and beside it the same
// drain without.
func (r *rig) strangerCase(ctx context.Context) error {
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	n := min(r.opts.Events, strangerEvents)
	for rep := range r.opts.Reps {
		r.say("transactions held open, %d of %d", rep+1, r.opts.Reps)
		var plain, beside drained
		if err := r.drainOnce(ctx, "plain", n, func(_ *site, d drained) error { plain = d; return nil }); err != nil {
			return err
		}
		late, err := r.heldDrain(ctx, n, &beside)
		if err != nil {
			return err
		}
		c := r.report.in("transactions held open")
		c.row("drain beside them, part of one without", "", beside.rate/plain.rate, atLeast(0.9))
		c.row("drain beside them", "1/s", beside.rate)
		c.row("the held event, commit to arrival", "ms", late.Seconds()*1000)
		if err := r.heldLatency(ctx); err != nil {
			return err
		}
	}
	return nil
}

// heldDrain drains beside held transactions, then commits the held event and returns how long it took to be visible.
func (r *rig) heldDrain(ctx context.Context, n int64, d *drained) (late time.Duration, err error) {
	s, err := r.newSite(ctx, "held")
	if err != nil {
		return 0, err
	}
	defer s.close(ctx)
	h, err := s.hold(ctx, n)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.close(ctx)) }()
	if err := errors.Join(s.load(ctx, 0, n, loadPerTx), s.settle(ctx)); err != nil {
		return 0, err
	}
	var relay *relay
	if *d, relay, err = s.drainBy(ctx, n); err != nil {
		return 0, err
	}
	defer relay.stop()
	before, err := r.stable(ctx, s.topic)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := h.commit(ctx); err != nil {
		return 0, err
	}
	if _, err := relay.firstEvent(ctx, sum(before)); err != nil {
		return 0, err
	}
	late = time.Since(began)
	c, err := s.count(ctx, n+1, nil)
	return late, errors.Join(err, c.err())
}

func (r *rig) heldLatency(ctx context.Context) (err error) {
	const rate = 2000
	s, err := r.newSite(ctx, "heldlatency")
	if err != nil {
		return err
	}
	defer s.close(ctx)
	h, err := s.hold(ctx, 0) // it is never committed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close(ctx)) }()
	p, err := s.pace(ctx, rate)
	if err != nil {
		return err
	}
	r.latencyRows("latency 2,000/s, transactions held open", rate, p)
	return nil
}
