package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
)

// view shows the run while it goes on.
type view interface {
	show(stats)
	// event is something that happened, told in a line. loud ones stand out.
	event(text string, loud bool)
	// close ends the live part; what is printed afterwards stands below it.
	close()
}

var (
	bold   = lipgloss.NewStyle().Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Color("1")).Bold(true)
	accent = lipgloss.NewStyle().Foreground(lipgloss.Color("6"))
)

// eventLine is an event with its time.
type eventLine struct {
	at   time.Duration
	text string
	loud bool
}

func (e eventLine) String() string {
	text := e.text
	if e.loud {
		text = bad.Render(text)
	}
	return faint.Render(clock(e.at)) + "  " + text
}

// live redraws a few lines on a terminal.
type live struct {
	program *tea.Program
	done    chan struct{}
	start   time.Time
	stop    func()
}

// newLive starts the live view. stop is called when the person presses Ctrl-C.
func newLive(out io.Writer, start time.Time, stop func()) *live {
	l := &live{done: make(chan struct{}), start: start, stop: stop}
	l.program = tea.NewProgram(&model{stop: stop}, tea.WithOutput(out), tea.WithoutSignalHandler())
	go func() {
		defer close(l.done)
		_, _ = l.program.Run()
	}()
	return l
}

func (l *live) show(s stats) { l.program.Send(s) }

func (l *live) event(text string, loud bool) {
	l.program.Send(eventLine{time.Since(l.start), text, loud})
}

func (l *live) close() {
	l.program.Send(tea.QuitMsg{})
	<-l.done
}

// model is the state of the live view.
type model struct {
	s      stats
	events []eventLine
	width  int
	stop   func()
}

func (m *model) Init() tea.Cmd { return nil }

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case stats:
		m.s = msg
	case eventLine:
		m.events = append(m.events, msg)
	case tea.WindowSizeMsg:
		m.width = msg.Width
	case tea.KeyMsg:
		if msg.String() == "ctrl+c" || msg.String() == "q" {
			m.stop()
		}
	}
	return m, nil
}

const barWidth = 24

func (m *model) View() string {
	if m.s.shop.target == 0 {
		return ""
	}
	lines := append([]string{""}, m.s.lines()...)
	lines = append(lines, "")
	for _, e := range m.events {
		lines = append(lines, "  "+e.String())
	}
	if m.width > 0 {
		for i := range lines {
			lines[i] = lipgloss.NewStyle().MaxWidth(m.width).Render(lines[i])
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// lines are the stages, in the order in which an event passes them.
func (s stats) lines() []string {
	out := []string{
		stage("shop", fmt.Sprintf("%s  %9s of %s events  %7s/s   %s rolled back", bar(s.shop.committed, s.shop.target), number(s.shop.committed),
			number(s.shop.target), number(int64(s.shop.rate)), number(s.shop.rolledBack))),
		stage("relay", s.relay.line(s.shop.target)),
	}
	for _, k := range s.sinks {
		out = append(out, stage(k.role, k.line(s)))
	}
	return append(out, stage("", faint.Render(fmt.Sprintf("%s elapsed", clock(s.elapsed)))))
}

func (r relayStats) line(target int64) string {
	if r.down {
		return bad.Render(fmt.Sprintf("%-*s", barWidth, r.state)) + fmt.Sprintf("  %9s published  %s waiting in the outbox", number(r.published), number(r.behind))
	}
	return fmt.Sprintf("%s  %9s published  %13s/s   %s", bar(r.published, target), number(r.published), number(int64(r.rate)),
		faint.Render(fmt.Sprintf("%d behind, pid %d", r.behind, r.pid)))
}

func (k sinkStats) line(s stats) string {
	if !k.ok {
		return faint.Render("getting ready")
	}
	age := "caught up"
	if k.lag > 0 {
		age = fmt.Sprintf("%s records behind", number(k.lag))
	}
	line := fmt.Sprintf("%s  %-24s %s", bar(max(0, s.relay.published-k.lag), s.shop.target), age, faint.Render("as of "+short(k.age)+" ago"))
	if k.role == "cache" && s.reads.reads > 0 {
		line += faint.Render(fmt.Sprintf("   %s price reads, %.0f%% hits, ", number(s.reads.reads), percent(s.reads.hits, s.reads.reads)))
		line += stale(s.reads.stale)
	}
	return line
}

func stale(n int64) string {
	if n == 0 {
		return good.Render("0 stale")
	}
	return bad.Render(number(n) + " stale")
}

func stage(name, text string) string {
	return "  " + accent.Render(fmt.Sprintf("%-10s", name)) + " " + text
}

func bar(n, of int64) string {
	full := 0
	if of > 0 {
		full = int(min(n, of) * barWidth / of)
	}
	return good.Render(strings.Repeat("█", full)) + faint.Render(strings.Repeat("░", barWidth-full))
}

// plain prints a line now and then, for logs and pipes.
type plain struct {
	out   io.Writer
	start time.Time
	last  time.Time
}

const plainEvery = 2 * time.Second

func (p *plain) show(s stats) {
	if time.Since(p.last) < plainEvery {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.out, "%s  shop %s/%s  relay %s published, %d behind", clock(s.elapsed), number(s.shop.committed), number(s.shop.target),
		number(s.relay.published), s.relay.behind)
	for _, k := range s.sinks {
		fmt.Fprintf(p.out, "  %s lag %d", k.role, k.lag)
	}
	fmt.Fprintln(p.out)
}

func (p *plain) event(text string, _ bool) {
	fmt.Fprintf(p.out, "%s  %s\n", clock(time.Since(p.start)), text)
}

func (p *plain) close() {}

func clock(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// short is an age in the two digits that matter.
func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(10 * time.Millisecond).String()
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
