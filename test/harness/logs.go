package harness

import (
	"bytes"
	"strings"
	"sync"
)

// maxLog is how much output of one process is kept, in bytes; the oldest goes first.
const maxLog = 16 << 20

// logs keeps what a process prints and wakes those who wait for a line.
type logs struct {
	mu sync.Mutex
	// mu guards the following
	text    []byte
	changed chan struct{} // closed and replaced at every write
	closed  bool
}

func newLogs() *logs { return &logs{changed: make(chan struct{})} }

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - maxLog; over > 0 {
		l.text = append([]byte(nil), l.text[over+maxLog/4:]...)
	}
	l.wake()
	return len(p), nil
}

// close says that nothing more will come.
func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wake()
}

func (l *logs) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// find returns the first whole line that contains text, or what to wait for.
func (l *logs) find(text string) (line string, found, closed bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := l.text; len(rest) > 0; {
		before, after, whole := bytes.Cut(rest, []byte("\n"))
		if (whole || l.closed) && bytes.Contains(before, []byte(text)) {
			return string(before), true, l.closed, l.changed
		}
		rest = after
	}
	return "", false, l.closed, l.changed
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
