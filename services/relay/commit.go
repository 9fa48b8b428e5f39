package relay

import (
	"time"

	"github.com/google/uuid"
)

// commit is a transaction whose commit has begun.
type commit struct {
	cursor *cursor
	// published to bad are the batch's.
	published, parked   int
	released, discarded int
	oldest              time.Time
	bad                 *Parked
	free                []uuid.UUID
	traced              []traced
	// began is when its page was asked for, asked when the commit began, ended when its outcome was known.
	began, asked, ended time.Time

	known chan struct{} // closed when err and ended are set
	err   error
}

// begins starts to commit a transaction; known waits for the goroutine.
func (l *loop) begins(f *flight) {
	p := &commit{
		cursor: f.cursor, published: f.batch.published, parked: f.batch.parked, released: f.batch.released,
		discarded: f.batch.discarded, oldest: f.batch.oldest, bad: f.batch.bad, free: f.batch.free, traced: f.batch.traced, began: f.began, asked: l.now(),
		known: make(chan struct{}),
	}
	l.pending = p
	go func() {
		defer close(p.known)
		l.point(pointCommitting)
		p.err = l.publisher.commit(f.work, p.cursor.T)
		l.point(pointCommitted)
		p.ended = l.now()
	}()
}

// await returns when everything that was published is committed.
func (l *loop) await() error {
	err := l.land()
	if unknown := l.known(); err == nil {
		err = unknown
	}
	return err
}

// known returns when the outcome of the commit under way is known. An error leaves it unknown: nobody guesses, the session
// ends and the next one reads the cursor.
func (l *loop) known() error {
	p := l.pending
	if p == nil {
		return nil
	}
	<-p.known // bounded by PublishTimeout
	l.pending = nil
	if p.err != nil {
		return p.err
	}
	l.report.committed(p)
	l.well()
	return nil
}
