package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/internal/conf"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check the configuration, or print it as it is understood",
		Example: "  millrace config check\n  millrace config print -c /etc/millrace/millrace.yaml",
	}
	return family(cmd, newConfigCheck(a), newConfigPrint(a))
}

func newConfigCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, its schemas and its projections; exit status 2 if something is wrong",
		Long: `Check the configuration, its schemas and its projections. Nothing need run for
that. Where Kafka answers, it also notes which sinks serve what other
declarations have made: "millrace rebuild --plan SINK" says what differs.

Exit status 2 if something is wrong.`,
		Example: "  millrace config check",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			catalogue, projections, err := c.declarations()
			if err != nil {
				return err
			}
			for _, name := range sorted(c.Backfills) {
				if _, _, err := c.backfillConfig(name, catalogue); err != nil {
					return err
				}
			}
			for _, name := range sorted(c.Sinks) {
				keep, _, err := c.Sinks[name].Resolve(projections)
				if err == nil {
					_, err = c.Sinks[name].Graph(keep)
				}
				if err := c.sinkError(name, err); err != nil {
					return err
				}
			}
			for _, note := range append(c.notes(), c.differNotes(cmd.Context(), projections)...) {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: note: %s\n", c.file.Path, note)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%s, %s, %s, %s)\n", c.file.Path, count(int64(len(c.Outboxes)), "outbox", "outboxes"),
				count(int64(len(catalogue.All())), "schema", "schemas"), count(int64(len(projections)), "projection", "projections"), count(int64(len(c.Sinks)), "sink", "sinks"))
			return err
		},
	}
}

func newConfigPrint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "Print the configuration with variables filled in and defaults set, secrets hidden",
		Example: "  millrace config print\n  millrace config print -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.load()
		if err != nil {
			return err
		}
		c.hideSecrets()
		for name, o := range c.Outboxes {
			o.Config = o.Config.WithDefaults()
			c.Outboxes[name] = o
		}
		text, err := c.text(*out == "json")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(text))
		return err
	}
	return cmd
}

// text is the configuration as YAML, as it could be written in a file, or as JSON.
func (c *Config) text(asJSON bool) (string, error) {
	opts := []yaml.EncodeOption{yaml.OmitEmpty(), yaml.CustomMarshaler(func(d time.Duration) ([]byte, error) {
		if asJSON {
			return json.Marshal(conf.FormatDuration(d))
		}
		return []byte(conf.FormatDuration(d)), nil
	})}
	if asJSON {
		opts = append(opts, yaml.JSON())
	}
	raw, err := yaml.MarshalWithOptions(c, opts...)
	if err != nil || !asJSON {
		return string(raw), err
	}
	var pretty bytes.Buffer
	err = json.Indent(&pretty, raw, "", "  ")
	return pretty.String(), err
}
