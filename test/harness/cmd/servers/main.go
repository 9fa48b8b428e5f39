// Command servers starts the real servers once, runs a command that finds them
// in its environment, and stops them when the command has ended:
//
//	go run ./test/harness/cmd/servers go test ./...
//
// Without a command it prints the environment and serves until it is
// interrupted. At the end it says which tests were not run for want of a part.
// Its exit status is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func main() {
	only := flag.String("only", "", "comma-separated servers to start: kafka, postgres, redis, registry (default: all)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: servers [-only NAMES] [COMMAND [ARGUMENT...]]")
		flag.PrintDefaults()
	}
	flag.Parse()
	var names []string
	if *only != "" {
		names = strings.Split(*only, ",")
	}
	os.Exit(run(names, flag.Args()))
}

func run(names, command []string) int {
	// A terminal sends Ctrl-C to the command as well; what is left to us is to
	// wait for it and then stop the servers.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	begin := time.Now()
	servers, err := harness.StartServers(names...)
	defer servers.Stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "servers: started in %v\n", time.Since(begin).Round(100*time.Millisecond))
	for _, missing := range servers.Missing {
		fmt.Fprintln(os.Stderr, "servers:", missing)
	}
	if ctx.Err() != nil {
		return 130
	}
	if len(command) == 0 {
		for _, v := range servers.Env {
			fmt.Println("export", v)
		}
		<-ctx.Done()
		return 0
	}
	code := execute(ctx, command, servers.Env)
	skipped, err := servers.Summary(os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "servers:", err)
	case skipped > 0:
		fmt.Fprintf(os.Stderr, "servers: %d tests were NOT RUN, see above\n", skipped)
	}
	return code
}

// execute runs the command to its end, whatever interrupts us: its children must
// not outlive it. It gets SIGTERM when we are stopped by anything but its own end.
func execute(ctx context.Context, command, env []string) int {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return 130
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
}
