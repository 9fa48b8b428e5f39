package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/internal/conf"
	"github.com/millrace/millrace/services/sink"
)

func newRebuild(a *app) *cobra.Command {
	var s starting
	var plan bool
	cmd := &cobra.Command{
		Use:   "rebuild SINK",
		Short: "Build a sink anew beside the one that serves, prove it equal, and swap it in",
		Long: `Build a sink anew from the log beside the one that serves, compare the two, and
let the new one serve, in one step for every reader. Do it when a projection has
changed (--plan says what that makes different, and what it costs), or when you
do not trust what the sink holds.

The sink's processes do it; they must run. This command asks for it and shows
how far it is. Ctrl-C ends the looking, not the rebuild: "millrace rebuild
status SINK --follow" looks again. A process that is killed loses nothing:
the next one goes on.

What the new declarations make different is shown by column, with examples, and
waits for "millrace rebuild accept SINK" (or --accept-changes, said before). Any
other difference refuses the swap and shows the keys. After the swap the old one
follows for --keep-old, and "millrace rebuild rollback SINK" lets it serve again
without a step back in time.

Exit status 0 when the new one serves (with --detach: when the rebuild is under
way), 1 when it is refused or fails, 130 after Ctrl-C.`,
		Example: `  millrace rebuild --plan warehouse
  millrace rebuild warehouse --rate 50000 --max-lag 5s
  millrace rebuild warehouse --from bronze --keep-old 7d --detach
  millrace rebuild status warehouse
  millrace rebuild rollback warehouse`,
		Args:              takes("SINK"),
		ValidArgsFunction: completeSinks(a),
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&plan, "plan", false, "say what would differ, and what it costs; rebuild nothing")
	cmd.RunE = func(cmd *cobra.Command, got []string) error {
		o, err := s.options(time.Now())
		if err != nil {
			return err
		}
		d, err := openRebuilt(a, got[0])
		if err != nil {
			return err
		}
		if plan {
			return d.plan(cmd, s.out)
		}
		return d.start(cmd, &s, o)
	}
	cmd.AddCommand(newRebuildStatus(a), newRebuildAccept(a), newRebuildPause(a), newRebuildResume(a), newRebuildAbort(a), newRebuildRollback(a), newRebuildFinish(a))
	return cmd
}

// starting is what a rebuild is asked for with.
type starting struct {
	turning
	from, keepOld string
	rate          int
	maxLag        time.Duration
	accept        bool
}

func (s *starting) flags(cmd *cobra.Command) {
	s.turning.flags(cmd)
	cmd.Flags().StringVar(&s.from, "from", rebuild.FromBeginning, "`WHERE` to begin: beginning, bronze, or a time (RFC 3339, or 30d ago)")
	cmd.Flags().IntVar(&s.rate, "rate", 0, "at most `N` events a second (default: no bound)")
	cmd.Flags().DurationVar(&s.maxLag, "max-lag", rebuild.DefaultMaxLag, "keep the lag of the sink that serves within this: wait from half of it on")
	cmd.Flags().StringVar(&s.keepOld, "keep-old", "24h", "how long the old one follows after the swap, for a rollback; 0 for not")
	cmd.Flags().BoolVar(&s.accept, "accept-changes", false, "swap although the new declarations make a difference")
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]string{rebuild.FromBeginning, rebuild.FromBronze}, cobra.ShellCompDirectiveNoFileComp))
}

// options checks the flags.
func (s *starting) options(now time.Time) (rebuild.Options, error) {
	o := rebuild.Options{From: s.from, Rate: s.rate, MaxLag: s.maxLag, AcceptChanges: s.accept}
	if s.from != rebuild.FromBeginning && s.from != rebuild.FromBronze {
		at, err := moment("--from", s.from, now)
		if err != nil || s.from == "" {
			return o, usagef("--from %q is none of beginning, bronze, a time (2026-03-01T10:00:00Z), how long ago it is (12h, 30d)", s.from)
		}
		o.From = at.UTC().Format(time.RFC3339)
	}
	var err error
	switch o.KeepOld, err = conf.ParseDuration(s.keepOld); {
	case s.keepOld == "0":
		o.KeepOld = 0
	case err != nil || o.KeepOld < 0:
		return o, usagef("--keep-old %q is no time such as 24h or 7d", s.keepOld)
	case s.rate < 0:
		return o, usagef("--rate %d is below 0", s.rate)
	case s.maxLag <= 0:
		return o, usagef("--max-lag %v is not above 0", s.maxLag)
	}
	if o.KeepOld == 0 {
		o.KeepOld = time.Nanosecond // 0 means the default there
	}
	return o, s.check()
}

// rebuilt is a sink that is rebuilt, or looked at for that.
type rebuilt struct {
	*rebuild.Client
	config *Config
	name   string
	cfg    sink.Config
	kafka  []kgo.Opt
}

// openRebuilt finds the sink.
func openRebuilt(a *app, name string) (*rebuilt, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	if c.Sinks[name] == nil {
		return nil, c.file.Errorf("sinks", "has no %q (it has %q)", name, sorted(c.Sinks))
	}
	return c.rebuilt(name)
}

func (c *Config) rebuilt(name string) (*rebuilt, error) {
	d := &rebuilt{config: c, name: name, cfg: *c.Sinks[name]}
	if d.cfg.Role() == sink.Webhook {
		return nil, fmt.Errorf("sink %s is a webhook: it has no state of its own that could be rebuilt", name)
	}
	var err error
	if d.kafka, err = c.Kafka.options(); err != nil {
		return nil, err
	}
	d.Client = rebuild.Open(name, d.kafka...)
	return d, nil
}

// projections are those that the configuration has for the sink, and the topics that it follows.
func (d *rebuilt) projections() ([]fold.Projection, []string, error) {
	_, all, err := d.config.declarations()
	if err != nil {
		return nil, nil, err
	}
	keep, topics, err := d.cfg.Resolve(all)
	return keep, topics, d.config.sinkError(d.name, err)
}

// start asks for a rebuild by the declarations of the configuration, and shows how far it is.
func (d *rebuilt) start(cmd *cobra.Command, s *starting, o rebuild.Options) error {
	keep, _, err := d.projections()
	if err != nil {
		return err
	}
	o.Digests = map[string]string{}
	for _, p := range keep {
		o.Digests[p.Entity()] = p.Digest()
	}
	return d.turn(cmd, &s.turning, rebuild.Request{Action: rebuild.Start, Options: &o})
}

// request is a request by whoever types this.
func request(action rebuild.Action) rebuild.Request {
	host, _ := os.Hostname()
	return rebuild.Request{Action: action, By: cmp.Or(host, "somebody")}
}

// leaderPatience is how long a process of the sink is looked for before a command says that there is none: a group that is just
// being joined has no members either.
const leaderPatience = 6 * time.Second

// led returns an error if no process of the sink runs that could do anything.
func (d *rebuilt) led(ctx context.Context) error {
	adm, err := d.config.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	limit, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		group, err := describe(limit, adm, rebuild.ElectionGroup(d.name))
		switch {
		case err == nil && len(group.Members) > 0:
			return nil
		case err != nil && ctx.Err() == nil && limit.Err() == nil:
			return fmt.Errorf("ask Kafka about group %s: %w", rebuild.ElectionGroup(d.name), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.Done():
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("ask Kafka about group %s: %w", rebuild.ElectionGroup(d.name), err)
			}
			return fmt.Errorf("no process of sink %s runs, and its processes are who rebuilds it: start one (millrace sink %s, or millrace up), then ask again", d.name, d.name)
		case <-time.After(retryEvery):
		}
	}
}

func completeSinks(a *app) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, got []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil || len(got) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(sorted(c.Sinks), func(name string) bool { return c.Sinks[name].Role() == sink.Webhook }), cobra.ShellCompDirectiveNoFileComp
	}
}

// command is what a person may type about this sink.
func (d *rebuilt) command(words ...string) string {
	return strings.Join(append([]string{"millrace", "rebuild"}, append(words, d.name)...), " ")
}
