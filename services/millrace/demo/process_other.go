//go:build unix && !linux

package demo

import (
	"os/exec"
	"syscall"
)

// childAttributes keep the terminal's signals from the child.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// startChild starts cmd and closes done when it has ended.
func startChild(cmd *exec.Cmd, done chan struct{}) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}
