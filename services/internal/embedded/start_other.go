//go:build unix && !linux

package embedded

import "os/exec"

// startOwned starts cmd and closes done when it has ended.
func startOwned(cmd *exec.Cmd, done chan struct{}) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}
