// Command servers starts the real servers once, runs a command that finds them
// in its environment, and stops them when the command has ended:
//
//	servers go test ./...
//
// Without a command it starts all there are, prints the environment and serves
// until it is interrupted; with one, those that many tests need. At the end it says which tests were not run for want of a part.
// Its exit status is the command's, 130 when it was interrupted.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func main() {
	only := flag.String("only", "", "comma-separated servers to start: "+strings.Join(harness.AllServers(), ", ")+" (default: all; before a command all but opensearch)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: servers [-only NAMES] [COMMAND [ARGUMENT...]]")
		flag.PrintDefaults()
	}
	flag.Parse()
	var names []string
	switch {
	case *only != "":
		names = strings.Split(*only, ",")
	case flag.NArg() == 0:
		names = harness.AllServers()
	}
	os.Exit(run(names, flag.Args()))
}

func run(names, command []string) int {
	interrupts := make(chan os.Signal, 4)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if len(command) > 0 {
		stopWithParent()
	}

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
	if len(command) == 0 {
		for _, v := range servers.Env {
			fmt.Println("export", v)
		}
		<-interrupts
		return 0
	}
	code := execute(command, servers.Env, interrupts)
	if skipped, err := servers.Summary(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
	} else if skipped > 0 {
		fmt.Fprintf(os.Stderr, "servers: %d tests were NOT RUN, see above\n", skipped)
	}
	return code
}
