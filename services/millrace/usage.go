package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// usageError marks a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// takes checks the number of arguments by the names that the usage line gives them: "ENTITY [QUERY]", or "NAME..." for one or
// more. Without names a command takes none.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, got []string) error {
		for i, name := range names {
			switch {
			case i >= len(got) && !strings.HasPrefix(name, "["):
				return usagef("%s is missing", strings.TrimSuffix(name, "..."))
			case strings.HasSuffix(name, "..."):
				return nil
			}
		}
		if len(got) > len(names) {
			return usagef("unexpected argument %q", got[len(names)])
		}
		return nil
	}
}

// family makes a command that is nothing but the parent of others. Without the name of one it does no work, so it must not look
// as if it had: a script that says "millrace migrate" gets exit status 2.
func family(parent *cobra.Command, children ...*cobra.Command) *cobra.Command {
	parent.AddCommand(children...)
	parent.Args = cobra.ArbitraryArgs
	parent.RunE = func(cmd *cobra.Command, got []string) error {
		if len(got) > 0 {
			return unknown(cmd, got[0])
		}
		return usagef("say which: %s", strings.Join(names(cmd), ", "))
	}
	return parent
}

// alike is how many letters may differ between a command and what was written for it.
const alike = 2

// unknown is the error about a command that does not exist, with those that may have been meant.
func unknown(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = alike
	if meant := cmd.SuggestionsFor(name); len(meant) > 0 {
		return usagef("unknown command %q: did you mean %s?", name, strings.Join(meant, " or "))
	}
	return usagef("unknown command %q: there are %s", name, strings.Join(names(cmd), ", "))
}

func names(cmd *cobra.Command) []string {
	var out []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			out = append(out, c.Name())
		}
	}
	return out
}

// usageTemplate is cobra's without the line "millrace migrate [flags]" for a command that is only the parent of others. The relay
// and a rebuild are both.
func usageTemplate(root *cobra.Command) string {
	return strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (or (not .HasAvailableSubCommands) (eq .Name "relay") (eq .Name "rebuild") (eq .Name "backfill"))}}`, 1)
}

// withExamples gives the commands that cobra makes by itself what all others have.
func withExamples(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Example = "  millrace help migrate up"
			c.Run, c.RunE = nil, func(_ *cobra.Command, about []string) error {
				found, rest, err := root.Find(about)
				if err != nil {
					return usageError{err}
				}
				if len(rest) > 0 {
					return unknown(found, rest[0])
				}
				return found.Help()
			}
		case "completion":
			c.Short = "Print the script that completes commands in your shell"
			c.Example = "  source <(millrace completion bash)"
			for _, shell := range c.Commands() {
				shell.Example = "  millrace completion " + shell.Name()
			}
			family(c)
		}
	}
}
