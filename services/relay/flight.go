package relay

import (
	"context"
	"time"
)

// flight is a page whose records are on their way to the brokers: a transaction, or the last part of one so far.
type flight struct {
	work   context.Context
	cursor *cursor
	batch  *batch
	window *window   // whose gate must be open before it is committed; nil if there is none
	began  time.Time // of the transaction's first page
	sent   time.Time // when the first page was
	pages  int       // of the transaction, this one included

	landed chan struct{} // closed when err is set
	err    error
}

// In a backlog a transaction takes several pages: for the brokers it is as much work as some two thousand events, whatever is in it. Each page
// brings its cursor; the last one counts.
const (
	pagesTogether = 4
	// openFor is how long after its first page was sent a transaction takes another one. Those who read what is committed wait.
	openFor = 250 * time.Millisecond
)

// publish sends the batch and the cursor, as one transaction or as a further part of the one on its way. It returns while the records
// are on their way; land goes on with them.
func (l *loop) publish(work context.Context, next *cursor, b *batch, began time.Time) error {
	f := &flight{work: work, cursor: next, batch: b, window: l.window, began: began, sent: l.now(), pages: 1, landed: make(chan struct{})}
	next.T, next.Time = l.cursor.T+1, f.sent.UTC()
	// Promise 2: every record of a page is acknowledged before anything of the next is sent; two producers share no sequence.
	if before := l.flight; l.joins(before, b) {
		if err := l.arrive(); err != nil {
			return err
		}
		f.continues(before)
		l.framer.recycle(before.batch)
	} else if err := l.land(); err != nil {
		return err
	}
	record, err := next.record(l.cfg.Outbox)
	if err != nil {
		return err
	}
	if err := l.announce(work, next, b); err != nil {
		l.broken = true
		return err
	}
	// Promise 3: the cursor moves in the transaction of its events.
	b.add(record)
	go func() {
		defer close(f.landed)
		f.err = l.publisher.publish(work, next.T, b.records, b.wire)
	}()
	l.flight, l.cursor = f, next
	// Promise 7: what is acknowledged is committed before framing waits for the registry or Kafka. The broker's transaction timeout
	// would abort it otherwise, again and again.
	l.framer.ids.before = l.land
	if !next.inWindow() {
		l.window = nil
	}
	return nil
}

// joins says whether a batch becomes a further part of the transaction on its way. What concerns parked events stays in one of its own.
func (l *loop) joins(f *flight, b *batch) bool {
	return f != nil && f.pages < l.together && f.cursor == l.cursor && f.cursor.inWindow() && f.window == l.window &&
		f.batch.plain() && b.plain() && l.now().Sub(f.sent) < openFor
}

// continues makes a flight part of the transaction of the one before.
func (f *flight) continues(before *flight) {
	f.cursor.T = before.cursor.T
	f.began, f.sent, f.pages = before.began, before.sent, before.pages+1
	f.batch.carry(before.batch)
}

// land returns when the records on their way are acknowledged, and begins to commit them. An error ends the session.
func (l *loop) land() error {
	f := l.flight
	if f == nil {
		return nil
	}
	if err := l.arrive(); err != nil {
		return err
	}
	// Promise 3: if t-1 is not committed, t is not either.
	if err := l.known(); err != nil {
		l.broken = true
		return err
	}
	l.begins(f)
	l.framer.recycle(f.batch)
	return nil
}

// arrive returns when the records on their way are acknowledged, and could be committed.
func (l *loop) arrive() error {
	f := l.flight
	err := l.gate(f.work, f.window) // meanwhile
	<-f.landed                      // bounded by PublishTimeout
	l.flight = nil
	if f.err != nil {
		err = f.err
	} else {
		f.batch.placed()
		l.point(pointProduced)
	}
	l.broken = l.broken || err != nil
	return err
}
