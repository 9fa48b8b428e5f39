package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/millrace/export"
)

func newExport(a *app) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "export TOPIC --to FILE.avro",
		Short: "Copy the committed records of a topic into an Avro container file",
		Long: `Copy the committed records of a topic into an Avro container file, which every
Avro tool reads. Each record of the file tells topic, partition, offset, time,
key and headers, and holds the event in its own type, in the newest version of
it. A record that is no readable Avro is kept as bytes: nothing is left out.`,
		Example: "  millrace export shop.orders --to orders.avro",
		Args:    takes("TOPIC"),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&to, "to", "", "`FILE` to write; it must not exist")
	_ = cmd.MarkFlagFilename("to", "avro")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		if to == "" {
			return usagef("--to FILE.avro is missing")
		}
		stats, err := a.export(cmd, got[0], to)
		if err != nil {
			return err
		}
		rows := [][]string{}
		for _, name := range sorted(stats.Types) {
			label := name
			switch name {
			case export.Bytes:
				label = "(bytes: no Avro that can be read)"
			case export.None:
				label = "(null: no value)"
			}
			rows = append(rows, []string{label, number(stats.Types[name])})
		}
		if err := out.print(cmd.OutOrStdout(), stats, []string{"TYPE", "RECORDS"}, rows); err != nil || *out == "json" {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "(%s of %s in %s, %s)\n", count(stats.Records, "record", "records"), stats.Topic, to, short(stats.Elapsed))
		return err
	}
	return cmd
}

// export writes to a file beside the one that was named, and gives it its name when it is whole.
func (a *app) export(cmd *cobra.Command, topic, to string) (stats export.Stats, err error) {
	c, err := a.load()
	if err != nil {
		return stats, err
	}
	opts, err := c.Kafka.options()
	if err != nil {
		return stats, err
	}
	registry, err := c.registry()
	if err != nil {
		return stats, err
	}
	if _, err := os.Lstat(to); err == nil {
		return stats, fmt.Errorf("%s exists already: name another file", to)
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return stats, fmt.Errorf("create %s: %w", to, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	bar := newProgress(cmd.ErrOrStderr(), "reading "+topic)
	stats, err = export.Run(cmd.Context(), export.Config{Kafka: opts, Registry: registry, Topic: topic, Out: f, Progress: bar.at})
	bar.end()
	if err = errors.Join(err, f.Close()); err != nil {
		return stats, err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return stats, err
	}
	return stats, os.Rename(f.Name(), to)
}

// progress shows how far something is that takes longer than a moment, on a terminal only.
type progress struct {
	out   io.Writer
	what  string
	began time.Time
	shown time.Time
}

const (
	progressAfter = 2 * time.Second
	progressEvery = 200 * time.Millisecond
)

func newProgress(out io.Writer, what string) *progress {
	if !isTerminal(out) {
		out = nil
	}
	return &progress{out: out, what: what, began: time.Now()}
}

func (p *progress) at(done, of int64) {
	if p.out == nil || time.Since(p.began) < progressAfter || time.Since(p.shown) < progressEvery || of == 0 {
		return
	}
	p.shown = time.Now()
	rate := float64(done) / time.Since(p.began).Seconds()
	left := time.Duration(float64(of-done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(p.out, "\r%s: %d%%, %s/s, %s left \x1b[K", p.what, 100*done/of, number(int64(rate)), left)
}

func (p *progress) end() {
	if p.out != nil && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
