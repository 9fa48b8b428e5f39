package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
)

// busy is a run with the widest numbers that are to be expected.
func busy() stats {
	return stats{
		elapsed: 83 * time.Second,
		shop:    shopStats{committed: 999_999, target: 999_999, rolledBack: 70_000, rate: 12_345},
		relay:   relayStats{pid: 4_194_304, published: 999_000, rate: 12_345, behind: 99_999},
		sinks: []sinkStats{
			{role: "warehouse", ok: true, lag: 99_999, applied: 900_000, rate: 12_345, age: 99 * time.Second},
			{role: "search", ok: true, lag: 0, applied: 999_000, rate: 0, age: 130 * time.Millisecond},
			{role: "cache"},
		},
		reads: readStats{reads: 999_999, hits: 999_999, stale: 0, rate: 12_345},
	}
}

// A line that is wider than the terminal wraps, and the live view jumps.
func TestTheLiveViewFitsATerminal(t *testing.T) {
	down := busy()
	down.relay = relayStats{pid: 1, published: 999_000, behind: 99_999, down: true, state: "starting"}
	for _, s := range []stats{busy(), down, {shop: shopStats{target: 25_000}, sinks: []sinkStats{{role: "warehouse"}}}} {
		for _, width := range []int{80, 100, 120, 200} {
			for _, line := range s.lines(width) {
				if w := lipgloss.Width(line); w > width {
					t.Errorf("%d columns in %d: %s", w, width, line)
				}
			}
		}
	}
}

// The numbers stand below each other, whatever they are.
func TestTheColumnsStandStill(t *testing.T) {
	column := func(s stats, word string) int {
		for _, line := range s.lines(80) {
			if strings.Contains(line, word) {
				return lipgloss.Width(line[:strings.Index(line, word)])
			}
		}
		t.Fatalf("no %q", word)
		return 0
	}
	small := busy()
	small.sinks[0].lag, small.sinks[0].age = 1, time.Second
	if a, b := column(busy(), "as of"), column(small, "as of"); a != b {
		t.Errorf("%d and %d", a, b)
	}
}

func TestStoriesAreNarrow(t *testing.T) {
	m := &model{width: 80, s: busy(), events: []eventLine{{time.Minute, strings.Repeat("x", 200), true}}}
	for _, line := range strings.Split(m.View(), "\n") {
		if w := lipgloss.Width(line); w > 80 {
			t.Errorf("%d columns: %s", w, line)
		}
	}
}

func TestMeterIsTheRateOfTheLastSeconds(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	for i := range 100 {
		got := m.rate(int64(i*100), now)
		if i > 30 && (got < 990 || got > 1010) {
			t.Fatalf("after %v: %v a second", now, got)
		}
		now = now.Add(100 * time.Millisecond)
	}
	if got := m.rate(9900, now.Add(time.Minute)); got > 200 {
		t.Errorf("a count that stands still has no rate: %v", got)
	}
}

// A run that is bounded in time says so from the beginning, and at its end how many events it came to.
func TestTheShopSaysHowManyEventsItCameTo(t *testing.T) {
	for _, c := range []struct {
		total int64
		open  time.Duration
		want  string
	}{
		{25_000, 40 * time.Second, "the shop closes after 25,000 events; "},
		{25_003, 0, "the shop closes after 25,003 events; "},
		{19_123, 40 * time.Second, "40s are over: the shop closes after 19,123 events, not 25,000 (--events 25000 takes its time); "},
	} {
		if got := closing(c.total, Config{Events: 25_000, Open: c.open}); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if got := (shopStats{target: 25_000, atMost: true}).of(); got != "of at most 25,000" {
		t.Error(got)
	}
	if got := (shopStats{target: 19_123}).of(); got != "of 19,123" {
		t.Error(got)
	}
	s := busy()
	s.shop.atMost = true
	for _, line := range s.lines(80) {
		if w := lipgloss.Width(line); w > 80 {
			t.Errorf("%d columns: %s", w, line)
		}
	}
}
