package demo

import (
	"fmt"
	"strings"
	"time"
)

// Columns of the live view. Every cell has a width of its own, so that nothing moves but the numbers.
const (
	nameWidth    = 10
	countWidth   = 9
	rateWidth    = 9
	noteWidth    = 38 // what the widest note needs
	fixedWidth   = 2 + nameWidth + 1 + countWidth + rateWidth + 2
	minBar       = 6
	maxBar       = 30
	defaultWidth = 100 // where the width of the terminal is not known
)

// lines are the stages, in the order in which an event passes them, for a terminal of the given width.
func (s stats) lines(width int) []string {
	if width == 0 {
		width = defaultWidth
	}
	b := bars{width: min(max(width-fixedWidth-noteWidth, minBar), maxBar), of: s.shop.target}
	out := []string{
		faint.Render(b.row("", strings.Repeat(" ", b.width), "events", "a second", "")),
		b.stage("shop", s.shop.committed, s.shop.rate, faint.Render(fmt.Sprintf("%s, %s rolled back", s.shop.of(), number(s.shop.rolledBack)))),
		s.relay.line(b),
	}
	for _, k := range s.sinks {
		out = append(out, k.line(b))
	}
	if s.reads.reads > 0 {
		note := faint.Render(fmt.Sprintf("%3.0f%% of prices from cache, ", percent(s.reads.hits, s.reads.reads))) + stale(s.reads.stale)
		out = append(out, b.row(accent.Render(fmt.Sprintf("%-*s", nameWidth, "visitors")), strings.Repeat(" ", b.width), number(s.reads.reads), number(int64(s.reads.rate)), note))
	}
	return append(out, "", "  "+faint.Render(clock(s.elapsed)+"  Ctrl-C stops"))
}

// of is what the shop's count is to become: a run that is bounded in time may end before.
func (s shopStats) of() string {
	if s.atMost {
		return "of at most " + number(s.target)
	}
	return "of " + number(s.target)
}

func (r relayStats) line(b bars) string {
	if r.down {
		return b.row(accent.Render(fmt.Sprintf("%-*s", nameWidth, "relay")), b.bar(r.published), number(r.published), "-",
			bad.Render(r.state)+faint.Render(fmt.Sprintf(", %s wait in the outbox", number(r.behind))))
	}
	return b.stage("relay", r.published, r.rate, faint.Render(fmt.Sprintf("%6s behind, process %d", number(r.behind), r.pid)))
}

func (k sinkStats) line(b bars) string {
	if !k.ok {
		return b.stage(k.role, k.applied, k.rate, faint.Render("getting ready"))
	}
	return b.stage(k.role, k.applied, k.rate, faint.Render(fmt.Sprintf("%6s behind, as of %4.1fs ago", number(k.lag), k.age.Seconds())))
}

func stale(n int64) string {
	if n == 0 {
		return good.Render("0 stale")
	}
	return bad.Render(number(n) + " stale")
}

// bars draws rows whose progress is measured against the same count.
type bars struct {
	width int
	of    int64
}

func (b bars) stage(name string, count int64, rate float64, note string) string {
	return b.row(accent.Render(fmt.Sprintf("%-*s", nameWidth, name)), b.bar(count), number(count), number(int64(rate)), note)
}

func (b bars) row(name, bar, count, rate, note string) string {
	if name == "" {
		name = strings.Repeat(" ", nameWidth)
	}
	return fmt.Sprintf("  %s %s%*s%*s  %s", name, bar, countWidth, count, rateWidth, rate, note)
}

func (b bars) bar(n int64) string {
	full := 0
	if b.of > 0 {
		full = int(min(n, b.of) * int64(b.width) / b.of)
	}
	return good.Render(strings.Repeat("█", full)) + faint.Render(strings.Repeat("░", b.width-full))
}

func clock(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// short is an age in the two digits that matter.
func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// number shows a count with its thousands apart.
func number(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
