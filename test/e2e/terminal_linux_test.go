package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/test/harness"
)

// A command asks a terminal nothing: where nobody answers it would wait for seconds, and the question stands in what a job logs.
func TestATerminalIsAskedNothing(t *testing.T) {
	t.Parallel()
	master, slave := openTerminal(t)
	cmd := exec.Command(harness.Binary(t), "version")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TERM=") && !strings.HasPrefix(v, "CI=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err := cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(master) // ends with an error when the last writer is gone
	if err := cmd.Wait(); err != nil {
		t.Errorf("version: %v", err)
	}
	if !bytes.HasPrefix(out, []byte("VERSION ")) || bytes.ContainsRune(out, '\x1b') {
		t.Errorf("a terminal gets %q", out)
	}
}

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var unlocked, number uint32
	for _, c := range []struct {
		request uintptr
		value   *uint32
	}{{syscall.TIOCSPTLCK, &unlocked}, {syscall.TIOCGPTN, &number}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), c.request, uintptr(unsafe.Pointer(c.value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
