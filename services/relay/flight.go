package relay

import (
	"context"
	"time"
)

// flight is a transaction whose records are on their way to the brokers.
type flight struct {
	work   context.Context
	cursor *cursor
	batch  *batch
	window *window // whose gate must be open before it is committed; nil if there is none
	began  time.Time

	landed chan struct{} // closed when err is set
	err    error
}

// publish sends the batch and the cursor as one transaction. It returns while the records are on their way; land goes on with
// them.
func (l *loop) publish(work context.Context, next *cursor, b *batch, began time.Time) error {
	// Promise 2: every record of t is acknowledged before anything of t+1 is sent; two producers share no sequence.
	if err := l.land(); err != nil {
		return err
	}
	next.T, next.Time = l.cursor.T+1, l.now().UTC()
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
	f := &flight{work: work, cursor: next, batch: b, window: l.window, began: began, landed: make(chan struct{})}
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

// land returns when the records on their way are acknowledged, and begins to commit them. An error ends the session.
func (l *loop) land() error {
	f := l.flight
	if f == nil {
		return nil
	}
	gated := l.gate(f.work, f.window) // meanwhile
	<-f.landed                        // bounded by PublishTimeout
	l.flight = nil
	err := l.proceed(f, gated)
	l.broken = l.broken || err != nil
	return err
}

func (l *loop) proceed(f *flight, gated error) error {
	if f.err != nil {
		return f.err
	}
	f.batch.placed()
	l.point(pointProduced)
	if gated != nil {
		return gated
	}
	// Promise 3: if t-1 is not committed, t is not either.
	if err := l.known(); err != nil {
		return err
	}
	l.begins(f)
	l.framer.recycle(f.batch)
	return nil
}
