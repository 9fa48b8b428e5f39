package demo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stopPatience is how long a child may take to stop when it is asked to.
const stopPatience = 15 * time.Second

// process is a child: the real binary in a role.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// spawn starts this program again in a role. Its output goes to a file in the folder of the run.
func spawn(binary string, s *site, name string, args ...string) (*process, error) {
	p := &process{name: name, done: make(chan struct{}), log: filepath.Join(s.dir, name+".log")}
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd = exec.Command(binary, append([]string{"-c", s.config}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	// A Ctrl-C in the terminal is for the demo, which then stops its children in order.
	p.cmd.SysProcAttr = childAttributes()
	if err := startChild(p.cmd, p.done); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the child with SIGKILL: it gets no chance to do anything about it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the child to stop, and kills it if it does not.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopPatience):
		p.kill()
		return fmt.Errorf("the %s did not stop in %s and was killed (--keep DIR keeps its log, DIR/%s)", p.name, stopPatience, filepath.Base(p.log))
	}
}

// ended returns an error with the end of its log if the child is no longer running.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("the %s ended by itself: %s (--keep DIR keeps its log, DIR/%s)", p.name, p.lastLine(), filepath.Base(p.log))
	default:
		return nil
	}
}

func (p *process) lastLine() string {
	raw, _ := os.ReadFile(p.log)
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	return string(lines[len(lines)-1])
}
