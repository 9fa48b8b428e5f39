package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/verify"
)

// repairing is what `repair` was asked for.
type repairing struct {
	verifying
	keys        []string
	differences bool
	timeout     time.Duration
	out         *format
}

// maxRepaired is how many keys are folded anew in one go; what is left shows in the next verify.
const maxRepaired = 10_000

func newRepair(a *app) *cobra.Command {
	var r repairing
	cmd := &cobra.Command{
		Use:   "repair SINK",
		Short: "Fold keys of a sink anew from their first events, and replace what it holds",
		Long: `Fold keys anew from nothing (from the topic's first event, or from the sink's
own bronze where the log no longer reaches) and put what that makes in the place
of the sink's states, at an equal version: --key names keys, --differences takes
those that verify finds.

The process that owns a key's partition does it, between two batches, all
entities of the key or none. The request stays on the sink's control topic until
it is done: it survives a crash, and done twice it has its effect once. That one
partition waits meanwhile. A key that waits behind a dead letter is repaired up
to that event, and discarded events stay out.

Exit status 1 if a key could not be repaired. Then: millrace verify SINK`,
		Example: "  millrace repair warehouse --key o-17\n  millrace repair search --differences --entity order",
		Args:    takes("SINK"),
	}
	r.out = output(cmd)
	cmd.Flags().StringVar(&r.url, "url", "", "`URL` where the sink's process serves HTTP, for --differences (default: http.listen)")
	cmd.Flags().StringSliceVar(&r.keys, "key", nil, "`KEY` to fold anew; may be given several times")
	cmd.Flags().BoolVar(&r.differences, "differences", false, "verify, and fold the keys anew that differ")
	cmd.Flags().StringSliceVar(&r.entity, "entity", nil, "only these `ENTITIES`: their topics with --key, their differences with --differences")
	cmd.Flags().DurationVar(&r.timeout, "timeout", 10*time.Minute, "how long to wait for the answers; requests stay when it is over")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return sorted(c.Sinks), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, got []string) error { return r.run(cmd, a, got[0]) }
	return cmd
}

func (r *repairing) run(cmd *cobra.Command, a *app, name string) error {
	switch {
	case r.differences == (len(r.keys) > 0):
		return usagef("say what to repair: --key KEY, or --differences")
	case r.timeout <= 0:
		return usagef("--timeout %v is not a time to wait", r.timeout)
	}
	c, err := a.load()
	if err != nil {
		return err
	}
	if _, err := c.verifiable([]string{name}); err != nil {
		return err
	}
	topics, err := c.topicsOf(name, r.entity)
	if err != nil {
		return err
	}
	keys, err := r.broken(cmd, a, c, name, topics)
	if err != nil {
		return err
	}
	opts, err := c.Kafka.options()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	tell := newRepairTeller(cmd, name, len(keys))
	done, err := verify.Mend(ctx, name, opts, keys, tell.answer)
	late := errors.Is(err, context.DeadlineExceeded) && cmd.Context().Err() == nil
	if err != nil && !late {
		return err
	}
	if err := r.print(cmd, done); err != nil {
		return err
	}
	return r.verdict(cmd, name, done)
}

// topicsOf are the topics of a sink's entities, by entity.
func (c *Config) topicsOf(name string, entities []string) (map[string]string, error) {
	_, projections, err := c.declarations()
	if err != nil {
		return nil, err
	}
	keep, _, err := c.Sinks[name].Resolve(projections)
	if err := c.sinkError(name, err); err != nil {
		return nil, err
	}
	topics := map[string]string{}
	for _, p := range keep {
		if len(entities) == 0 || slices.Contains(entities, p.Entity()) {
			topics[p.Entity()] = p.Topic()
		}
	}
	for _, e := range entities {
		if topics[e] == "" {
			return nil, usagef("sink %s keeps no entity %q", name, e)
		}
	}
	return topics, nil
}

// broken are the keys to repair.
func (r *repairing) broken(cmd *cobra.Command, a *app, c *Config, name string, topics map[string]string) ([]verify.Broken, error) {
	if !r.differences {
		var out []verify.Broken
		for _, key := range r.keys {
			for _, entity := range sorted(topics) {
				b := verify.Broken{Topic: topics[entity], Key: key}
				if ev := (consumers.Event{Key: key}); !ev.HasKey() {
					return nil, usagef("--key %q can be no key", key)
				}
				if !slices.Contains(out, b) {
					out = append(out, b)
				}
			}
		}
		return out, nil
	}
	result, err := r.sink(cmd, a, c, name, verify.Options{Entities: r.entity, Examples: maxRepaired})
	if err != nil {
		return nil, err
	}
	for _, b := range result.Bronze {
		if n := b.Missing + b.Doubled + b.Unexpected; n > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s of %s/%d are not kept as they came: only a rebuild mends that (millrace rebuild %s)\n", count(n, "event", "events"), clean(b.Topic), b.Partition, name)
		}
	}
	return result.BrokenKeys(nil, topics), nil
}

func (r *repairing) print(cmd *cobra.Command, done []verify.Mended) error {
	if *r.out != "json" && len(done) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing differs")
		return nil
	}
	rows := make([][]string, len(done))
	for i, m := range done {
		outcome := map[consumers.Outcome]string{consumers.Done: "repaired", consumers.Nothing: "no event", consumers.Failed: "left as it is", "": "not answered"}[m.Outcome]
		rows[i] = []string{m.Topic, fmt.Sprint(m.Partition), m.Key, outcome, number(m.Events), m.Detail}
	}
	if done == nil {
		done = []verify.Mended{}
	}
	return r.out.print(cmd.OutOrStdout(), done, []string{"TOPIC", "PARTITION", "KEY", "", "EVENTS", ""}, rows)
}

// verdict makes the exit status. With --key, the topic of another entity need not have the key.
func (r *repairing) verdict(cmd *cobra.Command, name string, done []verify.Mended) error {
	good := map[string]bool{}
	bad, open := false, 0
	for _, m := range done {
		good[m.Key] = good[m.Key] || m.Outcome == consumers.Done
		bad = bad || m.Outcome == consumers.Failed
		if m.Outcome == "" {
			open++
		}
	}
	for _, m := range done {
		bad = bad || !good[m.Key]
	}
	if open > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: no process has answered within %s. It stays, and is carried out when the sink runs (millrace sink %s)\n",
			count(int64(open), "request", "requests"), short(r.timeout), name)
	}
	if bad || open > 0 {
		return errQuiet
	}
	return nil
}

// newRepairTeller tells how many are done, where that takes longer.
func newRepairTeller(cmd *cobra.Command, name string, keys int) *repairTeller {
	return &repairTeller{cmd: cmd, name: name, keys: keys, said: time.Now(), began: time.Now()}
}

type repairTeller struct {
	cmd         *cobra.Command
	name        string
	keys, done  int
	detail      string
	said, began time.Time
}

func (t *repairTeller) answer(a *consumers.Answer) {
	switch {
	case a == nil:
	case a.Outcome == consumers.Underway:
		t.detail = a.Detail
	default:
		t.done++
	}
	if time.Since(t.said) < quietFor {
		return
	}
	t.said = time.Now()
	text := fmt.Sprintf("repairing %s: %s of %s after %s", t.name, number(int64(t.done)), count(int64(t.keys), "key", "keys"), short(time.Since(t.began)))
	fmt.Fprintln(t.cmd.ErrOrStderr(), clean(strings.TrimSuffix(text+", "+t.detail, ", ")))
}
