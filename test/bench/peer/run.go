package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
)

const (
	sample = 50 * time.Millisecond // from one look at the topic to the next
	stuck  = 2 * time.Minute       // without a new record: the run has failed
)

// run is what one measurement works on.
type run struct {
	o        Options
	outbox   *outbox
	inserter *inserter
	topic    *topic
	worker   *worker
	progress func(string)
}

// newRun makes everything but a running worker. what is the measurement's name in progress.
func newRun(ctx context.Context, o Options, what string, progress func(string)) (_ *run, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	r := &run{o: o, progress: func(line string) { progress(o.Label + ", " + what + ": " + line) }}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.outbox, err = newOutbox(ctx, o.Postgres); err != nil {
		return nil, err
	}
	if r.topic, err = newTopic(ctx, o, r.outbox.name); err != nil {
		return nil, err
	}
	if r.inserter, err = r.outbox.newInserter(ctx, o.Transaction, o.Payload); err != nil {
		return nil, err
	}
	if r.worker, err = newWorker(o, r.outbox, r.topic.name); err != nil {
		return nil, err
	}
	return r, nil
}

// close takes away what newRun made; the worker goes first, for it holds the slot.
func (r *run) close() error {
	r.worker.close()
	r.inserter.close()
	err := r.topic.close()
	if r.outbox != nil {
		err = errors.Join(err, r.outbox.close())
	}
	return err
}

// moment is a look at the run: how many records the topic held at a time, and how many CPU seconds had been used.
type moment struct {
	at      time.Time
	records int
	worker  float64
	sender  float64 // of Postgres's WAL sender; 0 before there is one, or where it cannot be read
}

func (r *run) look(ctx context.Context) (m moment, err error) {
	if m.records, err = r.topic.count(ctx); err != nil {
		return m, err
	}
	m.at = time.Now()
	m.worker = measure.CPU(r.worker.process.PID())
	return m, r.worker.check()
}

// addSender adds the CPU time of the WAL sender, which is a process of this machine or of another.
func (r *run) addSender(ctx context.Context, m *moment) error {
	pid, err := r.outbox.walSender(ctx)
	if err != nil || pid == 0 {
		return err
	}
	m.sender = measure.CPU(pid)
	return nil
}

// peakMB returns the most memory that the worker has had resident since it was started.
func (r *run) peakMB() float64 { return measure.MemoryOf(r.worker.process.PID()).Peak }

// until looks at the run until the topic holds that many records, and hands each look to each.
func (r *run) until(ctx context.Context, records int, each func(moment)) error {
	var moved, told moment
	for {
		m, err := r.look(ctx)
		if err != nil {
			return err
		}
		each(m)
		if m.records >= records {
			return nil
		}
		if m.records > moved.records || moved.at.IsZero() {
			moved = m
		}
		if m.at.Sub(moved.at) > stuck {
			return fmt.Errorf("the topic has held %d of %d events for %v; the worker's last output:\n%s",
				m.records, records, stuck, lastLines(r.worker.process.Output(), 30))
		}
		if m.at.Sub(told.at) > 2*time.Second {
			r.tell(told, m, records)
			told = m
		}
		if err := pause(ctx, sample); err != nil {
			return err
		}
	}
}

func (r *run) tell(before, now moment, records int) {
	if now.records == 0 {
		r.progress("starting the worker")
		return
	}
	rate := float64(now.records-before.records) / now.at.Sub(before.at).Seconds()
	r.progress(fmt.Sprintf("%d of %d events, %.0f events/s", now.records, records, rate))
}
