package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/bench/measure"
)

// rebuildPatience is how long a rebuild may take before it is given up.
const rebuildPatience = 15 * time.Minute

// rebuilding is what is seen of a rebuild, by the sink's own record.
type rebuilding struct {
	asked time.Time
	// since is when each state was seen for the first time.
	since map[rebuild.State]time.Time
	// seen are the looks while it was built.
	seen    []instant
	total   int64
	waited  int // looks at which it was held back
	waiting string
}

// command runs the binary in the sink's folder and returns what it prints.
func (r *rebuildRig) command(ctx context.Context, p *sinkProcess, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, r.binary, append([]string{"-c", filepath.Join(r.dir, p.name, "millrace.yaml")}, args...)...)
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("millrace %s: %w: %s%s", strings.Join(args, " "), err, last(failed.String(), 10), last(string(out), 10))
	}
	return out, nil
}

// rebuild asks for a rebuild of a sink and follows it until the new generation serves.
func (r *rebuildRig) rebuild(ctx context.Context, p *sinkProcess) (*rebuilding, error) {
	before, err := rebuild.Open(p.name, r.seeds()...).Read(ctx)
	if err != nil {
		return nil, err
	}
	b := &rebuilding{asked: time.Now(), since: map[rebuild.State]time.Time{}}
	if _, err := r.command(ctx, p, "rebuild", p.name, "--detach"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, rebuildPatience)
	defer cancel()
	var line atomic.Pointer[string]
	tell := r.progress(func() string {
		if s := line.Load(); s != nil {
			return p.name + ": " + *s
		}
		return p.name + ": rebuild asked for"
	})
	defer tell()
	profile := func() error { return nil }
	err = rebuild.Open(p.name, r.seeds()...).Follow(ctx, func(rec rebuild.Record) error {
		if rec.Newest == before.Newest || rec.Rebuild == nil {
			return nil
		}
		begun := len(b.seen) > 0
		err := b.look(rec.Rebuild, measure.CPU(p.pid()))
		if !begun && len(b.seen) > 0 {
			profile = r.profileOf(ctx, p.base, p.name+"-rebuild")
		}
		text := fmt.Sprintf("%s, %s of %s events %s", rec.Rebuild.State, thousands(rec.Rebuild.Progress.Events), thousands(rec.Rebuild.Progress.Total), rec.Rebuild.Progress.Throttled)
		line.Store(&text)
		return err
	})
	if err == nil {
		err = fmt.Errorf("the rebuild of %s is not over after %v", p.name, rebuildPatience)
	}
	if errors.Is(err, errServes) {
		return b, profile()
	}
	return nil, errors.Join(err, profile())
}

var errServes = errors.New("the new generation serves")

// look takes in a record.
func (b *rebuilding) look(now *rebuild.Rebuild, cpu float64) error {
	if _, known := b.since[now.State]; !known {
		b.since[now.State] = time.Now()
	}
	switch now.State {
	case rebuild.Refused, rebuild.Failed, rebuild.Retiring:
		return fmt.Errorf("the rebuild is %s: %s", now.State, now.Reason)
	case rebuild.Soaking:
		return errServes
	}
	p := now.Progress
	if p.Throttled != "" {
		b.waited++
		b.waiting = p.Throttled
	}
	b.total = max(b.total, p.Total)
	if p.Events > 0 && (len(b.seen) == 0 || p.Events > b.seen[len(b.seen)-1].total) {
		b.seen = append(b.seen, instant{at: p.At, total: p.Events, cpu: cpu})
	}
	return nil
}

// built is the stretch that a rate is taken over: from the first look at which something was applied to the last one at which something was left, for what was applied
// between that one and the end took an unknown part of the time between two looks. With fewer than three looks all of it counts.
func (b *rebuilding) built() (first, end instant, err error) {
	n := len(b.seen)
	if n < 2 {
		return first, end, fmt.Errorf("the rebuild was looked at %d times while it was built: take more events", n)
	}
	first, end = b.seen[0], b.seen[n-1]
	if n > 2 && end.total >= b.total {
		end = b.seen[n-2]
	}
	return first, end, nil
}

// took is how long a state lasted; the state that came next is the first of those given that was reached.
func (b *rebuilding) took(from rebuild.State, next ...rebuild.State) time.Duration {
	for _, s := range next {
		if at, ok := b.since[s]; ok {
			if began, ok := b.since[from]; ok {
				return at.Sub(began)
			}
		}
	}
	return 0
}

// whole is the time from asking to serving.
func (b *rebuilding) whole() time.Duration { return b.since[rebuild.Soaking].Sub(b.asked) }

// planned is what `millrace rebuild --plan` says.
type planned struct {
	Events int64         `json:"events"`
	Rate   float64       `json:"rate"`
	Time   time.Duration `json:"time"`
}

func (r *rebuildRig) plan(ctx context.Context, p *sinkProcess) (planned, error) {
	var out planned
	raw, err := r.command(ctx, p, "rebuild", "--plan", p.name, "-o", "json")
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		return out, fmt.Errorf("ask for the plan: %w", err)
	}
	return out, nil
}
