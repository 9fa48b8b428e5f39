package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/outbox"
)

func newSchema(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schema",
		Short:   "Put Avro schemas into an outbox, or list what is there",
		Example: "  millrace schema push\n  millrace schema list -o json",
	}
	return family(cmd, newSchemaPush(a), newSchemaList(a))
}

func newSchemaPush(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Put the schemas of the configured folders into the outbox, for writers that use outbox.emit",
		Long: `Put the schemas of the configured folders into the outbox. A program that writes
through the Go package does this by itself; writers that use outbox.emit need it
once for every new schema. A schema that is there already is left alone.`,
		Example: "  millrace schema push\n  millrace schema push --outbox shop",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			catalogue, err := c.catalogue()
			if err != nil {
				return err
			}
			if len(catalogue.All()) == 0 {
				return c.file.Errorf("schemas", "names no folder with .avsc files")
			}
			name, o, err := c.outbox(name)
			if err != nil {
				return err
			}
			conn, err := connect(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("outbox %s: %w", name, err)
			}
			defer conn.Close(cmd.Context())
			pushed, err := outbox.Push(cmd.Context(), conn, catalogue, outbox.WithSchema(o.schema()))
			if err != nil {
				return fmt.Errorf("outbox %s: %w", name, err)
			}
			for _, s := range pushed {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: pushed %s %s\n", name, s.Name, s.Fingerprint)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d new, %d there already\n", name, len(pushed), len(catalogue.All())-len(pushed))
			return err
		},
	}
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	return cmd
}

// storedSchema is one row of `schema list`.
type storedSchema struct {
	Name        string    `json:"name"`
	Current     bool      `json:"current"`
	Topic       string    `json:"topic"`
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	CreatedAt   time.Time `json:"created_at"`
}

func newSchemaList(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the schemas in the outbox; the current one of a name is what outbox.emit stamps",
		Example: "  millrace schema list",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&name, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		name, o, err := c.outbox(name)
		if err != nil {
			return err
		}
		conn, err := connect(cmd.Context(), o)
		if err != nil {
			return fmt.Errorf("outbox %s: %w", name, err)
		}
		defer conn.Close(cmd.Context())
		list, err := outbox.List(cmd.Context(), conn, outbox.WithSchema(o.schema()))
		if err != nil {
			return fmt.Errorf("outbox %s: %w", name, err)
		}
		all := make([]storedSchema, len(list))
		rows := make([][]string, len(list))
		for i, s := range list {
			all[i] = storedSchema{s.Name, s.Current, s.Topic, s.Key, s.Fingerprint.String(), s.CreatedAt}
			rows[i] = []string{s.Name, strings.Repeat("*", btoi(s.Current)), s.Topic, s.Key, s.Fingerprint.String(), s.CreatedAt.UTC().Format(time.DateTime)}
		}
		return out.print(cmd.OutOrStdout(), all, []string{"NAME", "CURRENT", "TOPIC", "KEY", "FINGERPRINT", "SINCE"}, rows)
	}
	return cmd
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
