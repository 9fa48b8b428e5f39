// Command millrace is the whole product in one binary: the relay that publishes an outbox to Kafka, the sinks that follow the
// topics, and the tools of a person who runs them. main.go and app.go are the frame; every subcommand has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/internal/conf"
	"github.com/millrace/millrace/services/millrace/demo"
)

// Exit statuses.
const (
	exitFailure = 1   // the work failed, or what was checked is not so
	exitUsage   = 2   // the command line or the configuration is wrong
	exitStopped = 130 // as shells say it: a person pressed Ctrl-C
)

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup wants it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(cmd, err)
}

// report prints an error in one line and returns the exit status.
func report(cmd *cobra.Command, err error) int {
	err = explain(err)
	var ce *conf.Error
	var ue usageError
	var answer *answerError
	var gone *leftError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ce):
		fmt.Fprintln(cmd.ErrOrStderr(), "millrace: "+oneLine(err))
		return exitUsage
	case errors.As(err, &ue):
		fmt.Fprintf(cmd.ErrOrStderr(), "millrace: %s\nSee: %s --help\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	case errors.Is(err, errQuiet):
		return exitFailure
	case errors.Is(err, demo.ErrStopped), errors.As(err, &gone):
		fmt.Fprintln(cmd.ErrOrStderr(), "millrace: "+oneLine(err))
		return exitStopped
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(cmd.ErrOrStderr(), "millrace: "+interrupted(err))
		return exitStopped
	case errors.As(err, &answer):
		fmt.Fprintln(cmd.ErrOrStderr(), "millrace: "+answer.text())
		return exitFailure
	default:
		fmt.Fprintln(cmd.ErrOrStderr(), "millrace: "+oneLine(err))
		return exitFailure
	}
}

// interrupted is the line for a command that Ctrl-C has ended: what it has to say of that, if anything.
func interrupted(err error) string {
	if text := oneLine(err); strings.HasPrefix(text, "interrupted") {
		return strings.TrimSuffix(text, ": "+context.Canceled.Error())
	}
	return "interrupted"
}

// errQuiet ends a command with exit status 1 when everything has been said already.
var errQuiet = errors.New("failed")

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "millrace",
		Short: "Carry an application's events from its Postgres to everything that follows them",
		Long: `Millrace publishes the events that an application writes in its own database
transactions (the outbox) as Avro to Kafka, in order and exactly once, and keeps
a warehouse, a search index and a cache right that follow the topics.

New here? "millrace demo" shows all of it on this machine, with nothing to set up.`,
		Example: `  millrace demo
  millrace config check
  millrace migrate up
  millrace up`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.check,
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, got []string) error {
			if len(got) > 0 {
				return unknown(cmd, got[0])
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVarP(&a.path, "config", "c", "", "configuration `FILE` (default $MILLRACE_CONFIG, else millrace.yaml)")
	root.PersistentFlags().StringVar(&a.logLevel, "log-level", "info", "log lines from this level up: debug, info, warn, error")
	root.PersistentFlags().StringVar(&a.logFormat, "log-format", "text", "log lines on standard error as text or json")
	root.AddGroup(&cobra.Group{ID: "try", Title: "Try it:"}, &cobra.Group{ID: "run", Title: "Run it:"},
		&cobra.Group{ID: "set", Title: "Set it up:"}, &cobra.Group{ID: "look", Title: "Look into it:"})
	root.SetHelpCommandGroupID("set")
	root.SetCompletionCommandGroupID("set")
	group(root, "run", newUp(a), newRelay(a), newSink(a), newRebuild(a))
	group(root, "set", newMigrate(a), newSchema(a), newBackfill(a), newInit(a), newConfig(a), newVersion(a))
	group(root, "look", newStatus(a), newDoctor(a), newSQL(a), newGold(a), newSearch(a), newParked(a), newDLQ(a), newExport(a), newReplay(a))
	group(root, "look", newVerify(a), newRepair(a), newTrace(a))
	group(root, "try", newDemo(a))
	withExamples(root)
	root.SetUsageTemplate(usageTemplate(root))
	return root
}

func group(root *cobra.Command, id string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = id
		root.AddCommand(c)
	}
}
