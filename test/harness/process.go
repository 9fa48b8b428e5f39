package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Command says what to run. The zero value of every field but Path is fine.
type Command struct {
	Path string   // the program
	Args []string // without the program's name
	Env  []string // KEY=value, added to this process's environment
	Dir  string   // working folder; empty: this process's
	Name string   // for messages; empty: the last element of Path

	credential  *syscall.Credential // run as somebody else
	deathSignal syscall.Signal      // sent when this process dies; 0: SIGKILL
}

// Process is a running child. It dies when this process does, even when this
// process is killed. Methods may be called from several goroutines.
type Process struct {
	cmd   *exec.Cmd
	name  string
	logs  *logs
	out   *logs // standard output alone
	done  chan struct{}
	state error // what Wait returned; read it after done
}

// Start runs a command for the length of the test. At the test's end it is
// killed if it still runs, and if the test failed its last output is logged.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	p, err := start(c)
	must(t, err)
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("last output of %s:\n%s", p.name, lastLines(p.Output(), 60))
		}
	})
	return p
}

// start runs the command on a thread of its own, which waits for its end.
//
// Guarantee 1: the parent-death signal is tied to the starting thread, which must
// therefore last as long as the child; a thread that Go is free to retire would
// take the child with it.
func start(c Command) (*Process, error) {
	p := &Process{name: c.Name, logs: newLogs(), out: newLogs(), done: make(chan struct{})}
	if p.name == "" {
		p.name = c.Path[strings.LastIndex(c.Path, "/")+1:]
	}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	p.cmd.Stdout, p.cmd.Stderr = tee{p.out, p.logs}, p.logs
	p.cmd.WaitDelay = 2 * time.Second // grandchildren may hold the pipes
	// Its own process group: Ctrl-C in a terminal is for us to act on.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.credential}
	death := c.deathSignal
	if death == 0 {
		death = syscall.SIGKILL
	}
	dieWithParent(p.cmd.SysProcAttr, death)

	started := make(chan error, 1)
	go func() { // ends with the child; whoever holds p waits on p.done
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.state = p.cmd.Wait()
		}
		p.out.close()
		p.logs.close()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return p, nil
}

type tee [2]*logs

func (w tee) Write(b []byte) (int, error) {
	w[0].Write(b)
	return w[1].Write(b)
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns what was printed so far on both streams (the last 16 MiB).
func (p *Process) Output() string { return p.logs.String() }

// Stdout returns what was printed so far on standard output (the last 16 MiB).
func (p *Process) Stdout() string { return p.out.String() }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal; a process that has ended is no error.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.signal(sig); err != nil {
		t.Fatalf("send %v to %s: %v", sig, p.name, err)
	}
}

func (p *Process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Freeze stops the process as SIGSTOP does; Thaw lets it go on.
func (p *Process) Freeze(t testing.TB) { t.Helper(); p.Signal(t, syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw(t testing.TB) { t.Helper(); p.Signal(t, syscall.SIGCONT) }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t, 30*time.Second)
}

// Stop asks the process to end with SIGTERM and returns its exit code. One that
// has not ended after timeout fails the test.
func (p *Process) Stop(t testing.TB, timeout time.Duration) int {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	return p.Wait(t, timeout)
}

// Wait waits for the end of the process and returns its exit code, -1 if a
// signal ended it. One that has not ended after timeout fails the test.
func (p *Process) Wait(t testing.TB, timeout time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(timeout):
		t.Fatalf("%s still runs after %v; its last output:\n%s", p.name, timeout, lastLines(p.Output(), 40))
		return -1
	}
}

// WaitLine waits for a line of output that contains text, from the start of
// the process on, and returns the first such line. The test fails if the process
// ends without it or if timeout passes.
func (p *Process) WaitLine(t testing.TB, text string, timeout time.Duration) string {
	t.Helper()
	deadline := time.After(timeout)
	for {
		line, found, closed, changed := p.logs.find(text)
		switch {
		case found:
			return line
		case closed:
			t.Fatalf("%s ended (%v) without a line %q; its last output:\n%s", p.name, p.state, text, lastLines(p.Output(), 40))
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s printed no line %q in %v; its last output:\n%s", p.name, text, timeout, lastLines(p.Output(), 40))
		}
	}
}

// end sends sig and waits; what does not end in 20 s is killed.
func (p *Process) end(sig syscall.Signal) {
	if err := p.signal(sig); err != nil {
		return
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// ready calls probe until it succeeds, the process ends or timeout passes.
func (p *Process) ready(timeout time.Duration, probe func() error) error {
	deadline := time.Now().Add(timeout)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := probe()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v: %w; its last output:\n%s", p.name, timeout, err, lastLines(p.Output(), 40))
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended while starting (%v); its last output:\n%s", p.name, p.state, lastLines(p.Output(), 40))
		case <-time.After(pause):
		}
	}
}
