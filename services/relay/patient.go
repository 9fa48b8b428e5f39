package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// errSilence says that Postgres did not answer a statement: not with rows, not with an error, not by hanging up.
var errSilence = errors.New("no answer from Postgres")

const (
	// silenceSlack is how much longer the relay waits than the statement may take in Postgres, which can say what was wrong.
	silenceSlack = 2 * time.Second
	// patienceCap bounds how often in a row patience doubles.
	patienceCap = 32
)

// patience is how long a statement of a poll may take. It doubles each time that one took longer, so that what needs so long is read
// in the end, and is as configured again after a poll that took less. It belongs to sessions.
type patience struct {
	least, now time.Duration
}

func newPatience(least time.Duration) *patience { return &patience{least, least} }

// lost is called when a statement took longer.
func (p *patience) lost() { p.now = min(2*p.now, patienceCap*p.least) }

// answered is called after a poll that took so long.
func (p *patience) answered(took time.Duration) {
	if took < p.least {
		p.now = p.least
	}
}

// patient is a source that does not wait for ever: a connection whose packets are dropped by something on the way is not known to be
// lost, neither here nor in Postgres, and a poll behind a stranger's lock would not tell anybody that it waits.
type patient struct {
	source source
	*patience
}

var _ source = (*patient)(nil)

// limit has Postgres end the session's statements by itself, so that none outlives the relay that asked, behind a lock for example.
func (p *patience) limit(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`set statement_timeout = %d`, max(p.now.Milliseconds(), 1)))
	return wrap(err, "bound the statements of the session")
}

// within runs f for as long as patience lasts. What failed for that is errSilence, or what Postgres said of its own timeout.
func (p *patience) within(ctx context.Context, f func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, p.now+silenceSlack)
	defer cancel()
	err := f(bounded)
	switch {
	case err == nil:
	case bounded.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("%w for %v: the connection was lost on the way, or the statement needs longer than poll_timeout (a lock on the outbox?): %w",
			errSilence, p.now+silenceSlack, err)
		p.lost()
	case canceled(err):
		err = fmt.Errorf("a statement of a poll did not end within poll_timeout, %v (is there a lock on the outbox?), or was canceled: %w", p.now, err)
		p.lost()
	}
	return err
}

// canceled says that Postgres ended a statement before its time: SQLSTATE query_canceled.
func canceled(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57014"
}

func (p *patient) Open(ctx context.Context, last store.Snapshot, limit int) (w *store.Window, page store.Page, err error) {
	began := time.Now()
	err = p.within(ctx, func(ctx context.Context) (err error) {
		w, page, err = p.source.Open(ctx, last, limit)
		return err
	})
	if err == nil {
		p.answered(time.Since(began))
	}
	return w, page, err
}

func (p *patient) Page(ctx context.Context, w *store.Window, after int64, limit int) (page store.Page, err error) {
	began := time.Now()
	err = p.within(ctx, func(ctx context.Context) (err error) {
		page, err = p.source.Page(ctx, w, after, limit)
		return err
	})
	if err == nil {
		p.answered(time.Since(began))
	}
	return page, err
}

func (p *patient) Reopen(ctx context.Context, last, upper store.Snapshot) (w *store.Window, err error) {
	err = p.within(ctx, func(ctx context.Context) (err error) {
		w, err = p.source.Reopen(ctx, last, upper)
		return err
	})
	return w, err
}

func (p *patient) Flushed(ctx context.Context, w *store.Window) (flushed bool, err error) {
	err = p.within(ctx, func(ctx context.Context) (err error) {
		flushed, err = p.source.Flushed(ctx, w)
		return err
	})
	return flushed, err
}

func (p *patient) ForceFlush(ctx context.Context) error {
	return p.within(ctx, p.source.ForceFlush)
}

func (p *patient) Schema(ctx context.Context, fp schemas.Fingerprint) (s *schemas.Schema, err error) {
	err = p.within(ctx, func(ctx context.Context) (err error) {
		s, err = p.source.Schema(ctx, fp)
		return err
	})
	return s, err
}
