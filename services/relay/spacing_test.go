package relay

import (
	"testing"
	"time"
)

// Transactions move apart in a busy outbox, and neither in a calm one nor for a burst.
func TestSpacingFollowsTheRate(t *testing.T) {
	for _, c := range []struct {
		name        string
		rate        float64 // events a second for two seconds
		burst       int     // and then so many at once
		least, most time.Duration
	}{
		{name: "calm", rate: 500, least: 3 * time.Millisecond, most: 3 * time.Millisecond},
		{name: "steady", rate: 2000, least: 3 * time.Millisecond, most: 3 * time.Millisecond},
		{name: "a burst in calm", rate: 500, burst: 400, least: 3 * time.Millisecond, most: 3 * time.Millisecond},
		{name: "busy", rate: 6000, least: 19 * time.Millisecond, most: 25 * time.Millisecond},
		{name: "very busy", rate: 60_000, least: 60 * time.Millisecond, most: 60 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &loop{cfg: Config{}.WithDefaults()}
			now := time.Unix(1_000_000, 0)
			l.meter(now)
			for end := now.Add(2 * time.Second); now.Before(end); {
				took := l.spacing()
				l.filled = int(c.rate * took.Seconds())
				now = now.Add(took)
				l.meter(now)
			}
			l.filled += c.burst
			l.meter(now.Add(l.spacing()))
			if got := l.spacing(); got < c.least || got > c.most {
				t.Errorf("%v at %v events a second, want %v to %v", got, c.rate, c.least, c.most)
			}
		})
	}
}

// An outbox that was busy is calm again at once when it has been silent.
func TestSpacingForgets(t *testing.T) {
	l := &loop{cfg: Config{}.WithDefaults(), rate: 60_000}
	now := time.Unix(1_000_000, 0)
	l.meter(now)
	l.filled = 1
	l.meter(now.Add(3 * time.Second))
	if got := l.spacing(); got != l.cfg.Spacing {
		t.Errorf("%v three seconds later, want %v", got, l.cfg.Spacing)
	}
}
