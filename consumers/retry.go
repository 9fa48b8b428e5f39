package consumers

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a consumer may have to wait for, as logs and Health name it.
const (
	outageKafka   = "kafka"
	outageTopic   = "topic"
	outageClaim   = "claim"
	outageDecode  = "schema registry"
	outageProcess = "sink"
	outageGroup   = "membership of the group"
	outageRedrive = "redriving"
	outageAnswer  = "the control topic"
)

// retryUntil tries until f succeeds, a retry cannot help, ctx ends or stopped is closed; the error is the last one. waiting is
// called before each pause.
func (c *Consumer) retryUntil(ctx context.Context, stopped <-chan struct{}, kind string, tp TopicPartition, waiting func(), f func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := f(ctx)
		switch {
		case err == nil:
			c.outages.end(kind, tp)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case (kind == outageProcess || kind == outageRedrive) && (errors.Is(err, ErrFenced) || errors.Is(err, ErrPosition)), Classify(err) == Systemic:
			c.outages.end(kind, tp)
			c.metrics.failed(err)
			return err
		}
		c.metrics.failed(err)
		c.outages.begin(kind, tp, err)
		waiting()
		t := time.NewTimer(max(backoff(c.cfg.RetryMin, c.cfg.RetryMax, attempt), Wait(err)))
		select {
		case <-t.C:
			continue
		case <-ctx.Done():
		case <-stopped:
		}
		t.Stop()
		return err
	}
}

func (c *Consumer) retry(ctx context.Context, kind string, tp TopicPartition, f func(context.Context) error) error {
	return c.retryUntil(ctx, nil, kind, tp, func() {}, f)
}

// retry is retryUntil for the lane's work.
func (l *lane) retry(kind string, f func(context.Context) error) error {
	l.mu.Lock()
	was := l.state
	l.mu.Unlock()
	defer l.setState(was)
	return l.c.retryUntil(l.ctx, l.drained, kind, l.tp, func() { l.setState(Waiting) }, f)
}

func (l *lane) setState(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
}

// backoff is the pause before a further attempt: it doubles to a most, and varies by a quarter so that lanes do not come in step.
func backoff(least, most time.Duration, attempt int) time.Duration {
	d := most
	if attempt < 20 && least<<attempt < most {
		d = least << attempt
	}
	return d - d/8 + rand.N(d/4+1)
}

// outages knows what is being waited for, and logs when a wait begins and ends: once for all partitions, not once an attempt.
type outages struct {
	log *slog.Logger

	mu   sync.Mutex // guards the following
	open map[string]*outage
}

type outage struct {
	since time.Time
	who   map[TopicPartition]error
}

func newOutages(log *slog.Logger) *outages { return &outages{log: log, open: map[string]*outage{}} }

func (o *outages) begin(kind string, who TopicPartition, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.open[kind]
	if out == nil {
		out = &outage{since: time.Now(), who: map[TopicPartition]error{}}
		o.open[kind] = out
		o.log.Warn("waiting for "+kind, "topic", who.Topic, "partition", who.Partition, "err", err)
	}
	out.who[who] = err
}

func (o *outages) end(kind string, who TopicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.open[kind]
	if out == nil {
		return
	}
	delete(out.who, who)
	if len(out.who) == 0 {
		delete(o.open, kind)
		o.log.Info("no longer waiting for "+kind, "after", time.Since(out.since).Round(time.Millisecond))
	}
}

// forget drops what a partition that is no longer ours waited for. Whether that came is not known.
func (o *outages) forget(who TopicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for kind, out := range o.open {
		delete(out.who, who)
		if len(out.who) == 0 {
			delete(o.open, kind)
		}
	}
}

// err returns what is being waited for; nil if nothing is.
func (o *outages) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	var w waiting
	for kind, out := range o.open {
		for _, err := range out.who {
			all = append(all, "waiting for "+kind+" since "+out.since.UTC().Format(time.RFC3339)+": "+err.Error())
			w.errs = append(w.errs, err)
			break
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	w.text = strings.Join(all, "; ")
	return &w
}

// waiting is what several outages have to say, in one line.
type waiting struct {
	text string
	errs []error
}

// Error returns the line.
func (w *waiting) Error() string { return w.text }

// Unwrap returns what is waited for.
func (w *waiting) Unwrap() []error { return w.errs }
