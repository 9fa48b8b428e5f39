package embedded

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startOwned starts cmd and closes done when it has ended. The kernel ends the child when this process dies, however it
// dies; as it watches the thread that started the child, that thread is kept until the child has ended.
func startOwned(cmd *exec.Cmd, done chan struct{}) error {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
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
