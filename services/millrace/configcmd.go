package main

import (
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
	cmd.AddCommand(newConfigCheck(a), newConfigPrint(a))
	return cmd
}

func newConfigCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		Short:   "Check the configuration, its schemas and its projections; exit status 2 if something is wrong",
		Example: "  millrace config check",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			catalogue, projections, err := c.declarations()
			if err != nil {
				return err
			}
			for _, name := range sorted(c.Sinks) {
				if _, _, key, err := c.Sinks[name].Resolve(projections); err != nil {
					return c.file.Errorf("sinks."+name+"."+key, "%v", err)
				}
			}
			for _, note := range c.notes() {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: note: %s\n", c.file.Path, note)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%d outboxes, %d schemas, %d projections, %d sinks)\n",
				c.file.Path, len(c.Outboxes), len(catalogue.All()), len(projections), len(c.Sinks))
			return err
		},
	}
}

func newConfigPrint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "Print the configuration with variables filled in and defaults set, secrets hidden",
		Example: "  millrace config print\n  millrace config print -o json",
		Args:    args(cobra.NoArgs),
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
		opts := []yaml.EncodeOption{yaml.OmitEmpty(), yaml.CustomMarshaler(func(d time.Duration) ([]byte, error) { return []byte(conf.FormatDuration(d)), nil })}
		if *out == "json" {
			opts = append(opts, yaml.JSON())
		}
		raw, err := yaml.MarshalWithOptions(c, opts...)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(raw)))
		return err
	}
	return cmd
}
