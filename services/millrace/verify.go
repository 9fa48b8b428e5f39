package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers/verify"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// verifying is what `verify` was asked for.
type verifying struct {
	url    string
	sample string
	entity []string
	boxes  []string
}

// verifiedAll is what `verify -o json` prints.
type verifiedAll struct {
	Outboxes []*relay.Verified `json:"outboxes"`
	Sinks    []*verify.Result  `json:"sinks"`
	// Failed are those that could not be compared, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

func newVerify(a *app) *cobra.Command {
	var v verifying
	cmd := &cobra.Command{
		Use:   "verify [SINK]...",
		Short: "Compare outboxes, topics and sinks: counts, checksums, and what differs",
		Long: `Compare outboxes with their topics, and sinks with theirs, each at one point.

Of an outbox: every event that is retained and was published must be in its
topic once, with the content of its row and in the order of its key, and every
record must come from a row. What is parked, was discarded, or has left by
retention is told, and is no difference. Postgres is only read.

Of a sink: every state that it holds with what its topics make of that key,
folded anew. Where a sink keeps events, their rows are compared with the
offsets. What is quarantined or was discarded is known from the dead letters
and is no difference.

It says what differs, for which keys, and since when. Without SINK and --outbox:
all outboxes and all sinks. They go on meanwhile. An embedded sink (duckdb,
bleve) is asked in its process; where none runs, its store is opened here.

Exit status 1 if something differs, or could not be compared.
Next: millrace repair SINK --differences, or millrace trace EVENT_ID`,
		Example: "  millrace verify\n  millrace verify --outbox shop\n  millrace verify warehouse --sample 1/16\n  millrace verify search --entity order -o json",
		Args:    takes("[SINK]..."),
	}
	out := output(cmd)
	cmd.Flags().StringVar(&v.url, "url", "", "`URL` where the sinks' process serves HTTP (default: http.listen)")
	cmd.Flags().StringVar(&v.sample, "sample", "", "`1/N` of the keys, chosen by a hash, others at each run (default: all)")
	cmd.Flags().StringSliceVar(&v.entity, "entity", nil, "only these `ENTITIES` of the sinks, no events and no outbox")
	cmd.Flags().StringSliceVar(&v.boxes, "outbox", nil, "only these `OUTBOXES`, and the sinks that are named")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return sorted(c.Sinks), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		sample, err := sink.ReadSample(v.sample)
		if err != nil {
			return usagef("--sample %w", err)
		}
		c, err := a.load()
		if err != nil {
			return err
		}
		if len(v.boxes) > 0 && len(v.entity) > 0 && len(names) == 0 {
			return usagef("--entity is of sinks: name one")
		}
		boxes, err := c.verifiedOutboxes(v.boxes, names, v.entity)
		if err != nil {
			return err
		}
		if len(names) > 0 || len(v.boxes) == 0 {
			if names, err = c.verifiable(names); err != nil {
				return err
			}
		}
		opts := verify.Options{Entities: v.entity, Sample: sample, Turn: uint64(time.Now().UnixNano())}
		all := &verifiedAll{Outboxes: []*relay.Verified{}, Sinks: []*verify.Result{}, Failed: map[string]string{}}
		for _, name := range boxes {
			r, err := v.outbox(cmd, c, name, sample)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			if err != nil {
				all.Failed["outbox "+name] = oneLine(err)
				continue
			}
			all.Outboxes = append(all.Outboxes, r)
		}
		for _, name := range names {
			r, err := v.sink(cmd, a, c, name, opts)
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			if err != nil {
				all.Failed["sink "+name] = oneLine(err)
				continue
			}
			all.Sinks = append(all.Sinks, r)
		}
		if err := all.print(cmd.OutOrStdout(), out); err != nil {
			return err
		}
		return all.verdict(cmd.ErrOrStderr(), out)
	}
	return cmd
}

// verifiable are the sinks to verify: those that were named, or all that hold something.
func (c *Config) verifiable(names []string) ([]string, error) {
	for i, name := range names {
		switch {
		case c.Sinks[name] == nil:
			return nil, c.file.Errorf("sinks", "has no %q (it has %q)", name, sorted(c.Sinks))
		case c.Sinks[name].Role() == sink.Webhook:
			return nil, usagef("sink %s is a webhook: it holds nothing that could be compared", name)
		case slices.Contains(names[:i], name):
			return nil, usagef("sink %s is named twice", name)
		}
	}
	if len(names) > 0 {
		return names, nil
	}
	for _, name := range sorted(c.Sinks) {
		if c.Sinks[name].Role() != sink.Webhook {
			names = append(names, name)
		}
	}
	return names, nil
}

// sink verifies one, in its process or here.
func (v *verifying) sink(cmd *cobra.Command, a *app, c *Config, name string, opts verify.Options) (*verify.Result, error) {
	there := remote{url: v.url, sink: name}
	if there.url == "" {
		there.url = "http://" + c.HTTP.Listen
	}
	bar := newVerifyBar(cmd.ErrOrStderr(), name)
	defer bar.end()
	r, err := there.verify(cmd.Context(), opts, bar.at)
	var none *noSinkError
	if err == nil || v.url != "" || !errors.Is(err, errNothingAnswers) && !errors.As(err, &none) {
		return r, err
	}
	if cfg := c.Sinks[name]; cfg.Path != "" {
		if _, there := os.Stat(cfg.Path); there != nil {
			return nil, fmt.Errorf("its store is not there yet: the sink makes it when it runs (millrace sink %s)", name)
		}
	}
	asked := err
	parts, err := c.parts(a)
	if err != nil {
		return nil, err
	}
	opts.Progress = bar.at
	if r, err = sink.VerifyHere(cmd.Context(), *c.Sinks[name], parts, opts); err != nil {
		return nil, fmt.Errorf("%w (%w)", err, asked)
	}
	return r, nil
}

// parts are what a sink works with, in a command.
func (c *Config) parts(a *app) (sink.Parts, error) {
	opts, err := c.Kafka.options()
	if err != nil {
		return sink.Parts{}, err
	}
	registry, err := c.registry()
	if err != nil {
		return sink.Parts{}, err
	}
	catalogue, projections, err := c.declarations()
	return sink.Parts{Kafka: opts, Registry: registry, Catalogue: catalogue, Projections: projections, Logger: a.logger}, err
}

// verify asks the process that runs the sink, and tells how far it is.
func (r *remote) verify(ctx context.Context, opts verify.Options, progress func(verify.Progress)) (*verify.Result, error) {
	body, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(r.url, "/")+"/v1/sinks/"+r.sink+"/verify", bytes.NewReader(body))
	if err != nil {
		return nil, usagef("--url %q is no URL such as http://127.0.0.1:8088", hideURL(r.url))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return nil, fmt.Errorf("%w at %s: is \"millrace up\" or \"millrace sink %s\" running? (--url says where it serves HTTP)", errNothingAnswers, hideURL(r.url), r.sink)
		}
		return nil, fmt.Errorf("ask sink %s: %w", r.sink, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, fmt.Errorf("read the answer of sink %s: %w", r.sink, err)
		}
		return nil, r.refused(resp, raw)
	}
	return r.follow(resp.Body, progress)
}

// follow reads lines until the result comes.
func (r *remote) follow(body io.Reader, progress func(verify.Progress)) (*verify.Result, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var l verify.Line
		switch err := json.Unmarshal(lines.Bytes(), &l); {
		case err != nil:
			return nil, fmt.Errorf("the answer of sink %s is not as expected: %w", r.sink, err)
		case l.Error != "":
			return nil, &answerError{l.Error}
		case l.Result != nil:
			return l.Result, nil
		case l.Progress != nil:
			progress(*l.Progress)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the answer of sink %s: %w", r.sink, err)
	}
	return nil, fmt.Errorf("sink %s broke off: its process was stopped; try again when it runs", r.sink)
}
