package rebuild

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// pace keeps a build from taking more than its share: a rate, and waits while something else has need of the machines.
type pace struct {
	mu      sync.Mutex // guards the following
	rate    int        // events a second; 0: no bound
	full    bool       // neither rate nor reason counts
	reason  string     // why nothing may be done now; "" if it may
	changed chan struct{}
	next    time.Time // when the next batch may begin
	held    string    // why a batch waits
	over    <-chan struct{}
}

func newPace() *pace { return &pace{changed: make(chan struct{})} }

// heldPace lets nothing pass before it is set, or free: neither rate nor lag is known.
func heldPace() *pace {
	p := newPace()
	p.reason = "the sink that serves was not looked at yet"
	return p
}

// errStopping ends a wait of a feed that stops.
var errStopping = errors.New("the feed is stopping")

// until says with which context the pace's feed ends.
func (p *pace) until(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = ctx.Done()
}

// set sets the rate, and why nothing may be done for now.
func (p *pace) set(rate int, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == rate && p.reason == reason && !p.full {
		return
	}
	p.rate, p.reason, p.full = rate, reason, false
	if p.held != "" {
		p.held = reason // until who waits has looked
	}
	p.tellLocked()
}

// free lets everything pass.
func (p *pace) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.full {
		p.full = true
		p.tellLocked()
	}
}

func (p *pace) tellLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait waits until a number of events may be applied.
func (p *pace) wait(ctx context.Context, events int) error {
	defer p.waiting("")
	for {
		d, why, changed, over := p.look(time.Now(), events)
		if d == 0 && why == "" {
			return nil
		}
		p.waiting(why)
		var due <-chan time.Time
		if d > 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			due = t.C
		}
		select {
		case <-due:
		case <-changed:
		case <-over:
			return errStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look takes the room for events, or says what to wait for: a time, or a change.
func (p *pace) look(now time.Time, events int) (d time.Duration, why string, changed, over <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.full:
		return 0, "", nil, nil
	case p.reason != "":
		return 0, p.reason, p.changed, p.over
	case p.rate == 0:
		return 0, "", nil, nil
	case now.Before(p.next):
		return p.next.Sub(now), fmt.Sprintf("the rate of %d events a second", p.rate), p.changed, p.over
	}
	if p.next.IsZero() || now.Sub(p.next) > time.Second {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(events) * time.Second / time.Duration(p.rate))
	return 0, "", nil, nil
}

func (p *pace) waiting(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = why
}

// throttled says why a batch waits at the moment; "" if none does.
func (p *pace) throttled() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}
