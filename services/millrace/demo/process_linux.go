package demo

import (
	"os/exec"
	"runtime"
	"syscall"
)

// childAttributes keep the terminal's signals from the child and end it when this process dies, however it dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startChild starts cmd and closes done when it has ended. The kernel watches the thread that started the child, so that
// thread is kept until then.
func startChild(cmd *exec.Cmd, done chan struct{}) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(done)
		}
	}()
	return <-started
}
