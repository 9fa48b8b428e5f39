package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// patience is how long an interrupted command may take to end.
const patience = 15 * time.Second

// execute runs the command to its end and returns its exit status. The command
// is a process group of its own, so that an interrupt, which we pass on, reaches
// all of it: go test does not pass SIGTERM on to the test binaries.
func execute(command, env []string, interrupts <-chan os.Signal) int {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
	// What the command leaves behind would look for servers that are gone.
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return status(err)
	case sig := <-interrupts:
		fmt.Fprintf(os.Stderr, "servers: %v: stopping\n", sig)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	select {
	case <-ended:
	case <-interrupts: // asked twice
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	case <-time.After(patience):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	return 130
}

func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
}
