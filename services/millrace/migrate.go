package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/outbox/migrate"
)

func newMigrate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create and upgrade the outbox tables in the application's database",
		Example: `  millrace migrate up
  millrace migrate status -o json
  millrace migrate print > outbox.sql`,
	}
	return family(cmd, newMigrateUp(a), newMigrateStatus(a), newMigratePrint(a))
}

func newMigrateUp(a *app) *cobra.Command {
	var only string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Apply what has not been applied yet; safe to repeat and to run from many places at once",
		Example: "  millrace migrate up\n  millrace migrate up --outbox shop",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.eachOutbox(only, func(name string, o *Outbox) error {
				conn, err := connect(cmd.Context(), o)
				if err != nil {
					return err
				}
				defer conn.Close(cmd.Context())
				applied, err := migrate.Up(cmd.Context(), conn, migrate.WithSchema(o.schema()))
				for _, m := range applied {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: applied %s\n", name, m)
				}
				if err == nil && len(applied) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: up to date\n", name)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&only, "outbox", "", "only the outbox of this `NAME` (default: all)")
	return cmd
}

// migrationState is one row of `migrate status`.
type migrationState struct {
	Outbox string `json:"outbox"`
	migrate.State
}

func newMigrateStatus(a *app) *cobra.Command {
	var only string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show which migrations are applied; exit status 1 if one is pending",
		Example: "  millrace migrate status",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&only, "outbox", "", "only the outbox of this `NAME` (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all := []migrationState{}
		var rows [][]string
		pending := false
		err := a.eachOutbox(only, func(name string, o *Outbox) error {
			conn, err := connect(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer conn.Close(cmd.Context())
			states, err := migrate.Status(cmd.Context(), conn, migrate.WithSchema(o.schema()))
			for _, s := range states {
				all = append(all, migrationState{name, s})
				rows = append(rows, []string{name, s.Migration.String(), migrationText(s)})
				pending = pending || s.Pending()
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := out.print(cmd.OutOrStdout(), all, []string{"OUTBOX", "MIGRATION", "STATE"}, rows); err != nil {
			return err
		}
		if pending {
			return errQuiet
		}
		return nil
	}
	return cmd
}

func migrationText(s migrate.State) string {
	notes := []string{"pending"}
	if !s.Pending() {
		notes[0] = "applied " + s.AppliedAt.UTC().Format(time.RFC3339)
	}
	if s.Changed {
		notes = append(notes, "with another text than this program's")
	}
	if s.Unknown {
		notes = append(notes, "newer than this program")
	}
	return strings.Join(notes, ", ")
}

func newMigratePrint(a *app) *cobra.Command {
	var schema string
	var after int
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "Print the migrations as SQL, for those who apply schema changes with tools of their own",
		Example: "  millrace migrate print > outbox.sql\n  millrace migrate print --schema events --after 1",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := migrate.SQL(after, migrate.WithSchema(schema))
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&schema, "schema", "outbox", "database schema that holds the tables")
	cmd.Flags().IntVar(&after, "after", 0, "only migrations newer than this version")
	return cmd
}
