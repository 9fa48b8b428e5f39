package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"
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
}

// newLive starts the live view. stop is called when the person presses Ctrl-C, which does not come as a signal meanwhile.
func newLive(out io.Writer, start time.Time, stop func()) *live {
	l := &live{done: make(chan struct{}), start: start}
	opts := []tea.ProgramOption{tea.WithOutput(out), tea.WithoutSignalHandler()}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		opts = append(opts, tea.WithInput(nil))
	}
	l.program = tea.NewProgram(&model{stop: stop, width: terminalWidth(out)}, opts...)
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

// terminalWidth is how many columns the terminal has; 0 if out is none.
func terminalWidth(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
	}
	return 0
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

func (m *model) View() string {
	if m.s.shop.target == 0 {
		return ""
	}
	lines := append([]string{""}, m.s.lines(m.width)...)
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
	fmt.Fprintf(p.out, "%s  shop %s %s  relay %s published, %s behind", clock(s.elapsed), number(s.shop.committed), s.shop.of(),
		number(s.relay.published), number(s.relay.behind))
	for _, k := range s.sinks {
		fmt.Fprintf(p.out, "  %s %s behind", k.role, number(k.lag))
	}
	fmt.Fprintln(p.out)
}

func (p *plain) event(text string, _ bool) {
	fmt.Fprintf(p.out, "%s  %s\n", clock(time.Since(p.start)), text)
}

func (p *plain) close() {}
