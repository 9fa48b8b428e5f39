package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/charmbracelet/lipgloss"

	"github.com/millrace/millrace/consumers/rebuild"
)

// rebuildView shows how far a rebuild is: a bar on a terminal; elsewhere a line for each change of state and one now and then.
type rebuildView struct {
	w    io.Writer
	sink string
	bar  bool

	last  *rebuild.Rebuild
	state string    // what was told of it
	told  time.Time // when the last line was printed
	drawn bool      // the bar stands on the terminal
}

const (
	// lineEvery is the pause between two lines about the same state.
	lineEvery = 10 * time.Second
	// silence is how old progress may be before it is said that nobody works.
	silence = 15 * time.Second
	// narrow is the width of a terminal that does not tell its own.
	narrow = 80
	// barCells is the width of the bar itself.
	barCells = 20
)

func newRebuildView(w io.Writer, sink string) *rebuildView {
	return &rebuildView{w: w, sink: sink, bar: isTerminal(w)}
}

// at shows a rebuild as it is now.
func (v *rebuildView) at(r *rebuild.Rebuild, now time.Time) {
	v.last = r
	v.again(now)
}

// again shows what was shown last, for time goes on.
func (v *rebuildView) again(now time.Time) {
	if v.last == nil {
		return
	}
	if v.bar {
		v.drawn = true
		fmt.Fprintf(v.w, "\r%s\x1b[K", cell(barText(v.last, now), v.width()-1))
		return
	}
	state := string(v.last.State) + v.last.Progress.Phase + fmt.Sprint(v.last.Paused)
	if state == v.state && now.Sub(v.told) < lineEvery {
		return
	}
	v.state, v.told = state, now
	fmt.Fprintln(v.w, clean(v.sink+": "+progressText(v.last, now)))
}

func (v *rebuildView) width() int {
	if f, ok := v.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return narrow
}

// end takes the bar away.
func (v *rebuildView) end() {
	if v.drawn {
		fmt.Fprint(v.w, "\r\x1b[K")
	}
	v.drawn = false
}

// stateText says what a rebuild does.
func stateText(r *rebuild.Rebuild) string {
	switch r.State {
	case rebuild.Planned:
		return fmt.Sprintf("generation %d is about to be built", r.New)
	case rebuild.Building:
		return fmt.Sprintf("building generation %d", r.New)
	case rebuild.CatchingUp:
		return fmt.Sprintf("generation %d catches up", r.New)
	case rebuild.Verifying:
		return fmt.Sprintf("comparing generation %d with %d", r.New, r.Old)
	case rebuild.CuttingOver:
		to, from := r.New, r.Old
		if r.RolledBack {
			to, from = from, to
		}
		return fmt.Sprintf("swapping generation %d for %d", from, to)
	case rebuild.Soaking:
		if r.RollingBack {
			return fmt.Sprintf("generation %d is about to serve again", r.Old)
		}
		return fmt.Sprintf("generation %d serves, %d follows", r.New, r.Old)
	case rebuild.Retiring:
		return "removing what does not serve"
	}
	return string(r.State)
}

// reading says what a phase reads.
var reading = map[string]string{"log": "reads the log", rebuild.FromBronze: "reads bronze"}

// progressParts are what there is to say beside the state, and how much of it is done, from 0 to 1; below 0 if that cannot be told.
func progressParts(r *rebuild.Rebuild, now time.Time) (parts []string, share float64) {
	p := r.Progress
	share = -1
	if p.Total > 0 && (r.State == rebuild.Building || r.State == rebuild.CatchingUp || r.State == rebuild.Verifying) {
		share = min(1, float64(p.Events)/float64(p.Total))
		parts = append(parts, fmt.Sprintf("%s of %s", number(p.Events), count(p.Total, "event", "events")))
	}
	building := r.State == rebuild.Building || r.State == rebuild.CatchingUp
	if building && p.Rate >= 1 && !r.Paused {
		parts = append(parts, number(int64(p.Rate))+"/s")
	}
	if building && p.Remaining > 0 && !r.Paused {
		parts = append(parts, short(p.Remaining.Round(time.Second))+" left")
	}
	if why := inTheWay(r, building, now); why != "" { // before what a narrow terminal cuts off
		parts = append(parts, why)
	}
	if p.At.IsZero() || !building && r.State != rebuild.Verifying {
		return parts, share
	}
	return append(parts, cmp.Or(reading[p.Phase], p.Phase), "live lag "+number(p.Lag)), share
}

// inTheWay is why it goes on slowly, or not at all; "" if nothing is in its way.
func inTheWay(r *rebuild.Rebuild, building bool, now time.Time) string {
	p := r.Progress
	switch {
	case r.Paused:
		return "paused"
	case building && !p.At.IsZero() && now.Sub(p.At) > silence:
		return "nobody works on it since " + short(now.Sub(p.At).Round(time.Second)) + ": does the sink run?"
	case r.Reason != "":
		return "waits: " + r.Reason
	case p.Throttled != "" && r.State == rebuild.Verifying:
		return "slowly: " + p.Throttled
	case building && p.Throttled != "":
		return "waits: " + p.Throttled
	}
	return ""
}

// progressText is a line about a rebuild.
func progressText(r *rebuild.Rebuild, now time.Time) string {
	parts, share := progressParts(r, now)
	text := stateText(r)
	if share >= 0 {
		text += fmt.Sprintf(", %d%%", int(100*share))
	}
	return strings.Join(append([]string{text}, parts...), ", ")
}

// barText is a line about a rebuild with a bar in it.
func barText(r *rebuild.Rebuild, now time.Time) string {
	parts, share := progressParts(r, now)
	text := stateText(r)
	if share >= 0 {
		full := int(share * barCells)
		text = lipgloss.JoinHorizontal(lipgloss.Top, text, " ", strings.Repeat("█", full)+strings.Repeat("░", barCells-full), fmt.Sprintf(" %d%%", int(100*share)))
	}
	return strings.Join(append([]string{text}, parts...), "  ")
}
