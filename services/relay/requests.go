package relay

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// lookTimeout bounds a look at the requests.
	lookTimeout = 5 * time.Second
	// lookWithout is how often it is tried where the outbox knows no requests.
	lookWithout = 30 * time.Second
)

// lookEvery is how often the leader looks for requests. Tests look more often.
var lookEvery = time.Second

// requests is the desk on Postgres: it looks for requests on a connection of its own, and writes the answers. A look is one
// statement on two tables that are empty as a rule.
type requests struct {
	r    *Relay
	conn *pgx.Conn
	wake chan struct{} // an answer is to be written

	mu sync.Mutex // guards the following
	// seen is what was wanted at the last look; fresh says that its switches were not handed over.
	seen  store.Requests
	fresh bool
	// atHand is the request that the loop has; 0 for none.
	atHand int64
	// reported is how far it has come, nil if that is written; answers are not written yet.
	reported *Answer
	answers  []answered
}

type answered struct {
	id     int64
	answer *Answer
	pause  *store.Pause
}

var _ desk = (*requests)(nil)

// openRequests looks for the first time: whoever starts on an outbox that is paused must know before it publishes.
func (r *Relay) openRequests(ctx context.Context) (*requests, error) {
	q := &requests{r: r, wake: make(chan struct{}, 1)}
	if err := q.look(ctx); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// serve looks again and again until the function it returns is called, which waits. Answers that are left are written then.
func (q *requests) serve(ctx context.Context) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(func() {
		for q.pause(ctx) {
			if err := q.look(ctx); err != nil && ctx.Err() == nil {
				q.r.cfg.Logger.Debug("requests not looked for", "err", err)
			}
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = q.write(last) // whoever starts next finds the work done
	})
	return func() {
		end()
		serving.Wait()
	}
}

func (q *requests) pause(ctx context.Context) bool {
	every := lookEvery
	if q.r.noRequests {
		every = max(every, lookWithout)
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// look writes answers, then reads what is wanted: never the other way round, for a request that was done would be read again.
func (q *requests) look(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	defer func() {
		if err != nil && q.conn != nil && !store.NoRequests(err) {
			closeConn(q.conn)
			q.conn = nil
		}
	}()
	if q.conn == nil {
		if q.conn, err = q.r.connect(ctx, "requests"); err != nil {
			return err
		}
	}
	if err := q.write(ctx); err != nil {
		return err
	}
	seen, err := store.LookForRequests(ctx, q.conn, q.r.cfg.Schema, q.work())
	if store.NoRequests(err) {
		q.without(err)
		return nil
	}
	if err != nil {
		return err
	}
	q.r.noRequests = false
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.answers {
		if a.pause != nil {
			seen.Pause = a.pause // of the loop's, and not written yet
		}
	}
	q.tellPause(q.r.status.paused(seen.Pause), seen.Pause)
	q.seen, q.fresh = seen, true
	return nil
}

// tellPause logs that a pause began or ended. A relay that begins to lead says so as well.
func (q *requests) tellPause(before, now *store.Pause) {
	switch {
	case before == nil && now != nil:
		q.r.cfg.Logger.Info("outbox paused, nothing is published", "by", now.By, "since", now.Since, "reason", now.Reason)
	case before != nil && now == nil:
		q.r.cfg.Logger.Info("outbox resumed", "paused_by", before.By, "after", time.Since(before.Since).Round(time.Second))
	}
}

// without tells, once, that this outbox cannot be operated by requests. Publishing does not depend on them.
func (q *requests) without(err error) {
	if !q.r.noRequests {
		q.r.cfg.Logger.Warn("no requests are taken (pause, drain, release and discard of parked events): run millrace migrate up, and grant the relay's role what 0003_requests names", "err", err)
	}
	q.r.noRequests = true
}

func (q *requests) work() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.atHand
}

// write writes the report and the answers there are.
func (q *requests) write(ctx context.Context) error {
	q.mu.Lock()
	id, report, answers := q.atHand, q.reported, q.answers
	q.reported = nil
	q.mu.Unlock()
	if (report != nil || len(answers) > 0) && q.conn == nil {
		return nil
	}
	if report != nil && id != 0 {
		if err := store.Report(ctx, q.conn, q.r.cfg.Schema, id, report.encode()); err != nil {
			return err
		}
	}
	for _, a := range answers {
		by, reason := "", ""
		if a.pause != nil {
			by, reason = a.pause.By, a.pause.Reason
		}
		if err := store.Answer(ctx, q.conn, q.r.cfg.Schema, a.id, a.answer.encode(), by, reason); err != nil {
			return err
		}
		q.written(a.id)
	}
	return nil
}

func (q *requests) written(id int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answers = q.answers[1:]
	if q.atHand == id {
		q.atHand, q.seen.Work = 0, nil
	}
}

func (q *requests) wanted() (*store.Pause, []int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var switches []int64
	if q.fresh {
		switches, q.fresh = q.seen.Switches, false
	}
	return q.seen.Pause, switches
}

func (q *requests) next() *store.Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.seen.Work
	if w == nil || w.ID == q.atHand {
		return nil
	}
	q.atHand = w.ID
	return w
}

func (q *requests) progress(_ int64, a *Answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reported = a
}

func (q *requests) answer(id int64, a *Answer, pause *store.Pause) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answers = append(q.answers, answered{id, a, pause})
	if pause != nil {
		q.seen.Pause = pause // from now on, whenever it is written
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *requests) close() {
	if q.conn != nil {
		closeConn(q.conn)
	}
}
