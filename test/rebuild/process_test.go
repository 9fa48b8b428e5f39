package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// process is one process of the sink.
type process struct {
	*harness.Process
	// killed says that it was meant to end, answered that a reader had an answer of it.
	killed, answered atomic.Bool
}

func (r *rig) process() *process {
	r.procs.Lock()
	defer r.procs.Unlock()
	return r.proc
}

// crashed says that the process before the one that runs was killed.
func (r *rig) crashed() bool {
	r.procs.Lock()
	defer r.procs.Unlock()
	return r.crashes
}

// log is what all processes have printed.
func (r *rig) log() string {
	r.procs.Lock()
	defer r.procs.Unlock()
	if r.proc == nil {
		return r.prints
	}
	return r.prints + r.proc.Output()
}

// start starts the sink with the real binary.
func (r *rig) start() *process { r.t.Helper(); return r.startAs(harness.Binary(r.t)) }

func (r *rig) startAs(binary string, env ...string) *process {
	r.t.Helper()
	p := r.startAt(r.listen, binary, env...)
	r.procs.Lock()
	defer r.procs.Unlock()
	if r.proc != nil {
		r.crashes = strings.Contains(r.proc.Output(), "crash point ")
		r.prints += r.proc.Output() + "\n--- the next process ---\n"
	}
	r.proc = p
	return p
}

// startAt starts a process that is not asked for its status.
func (r *rig) startAt(listen, binary string, env ...string) *process {
	r.t.Helper()
	return &process{Process: harness.Start(r.t, harness.Command{
		Path: binary, Args: []string{"-c", "millrace.yaml", "sink", r.name, "--listen", listen}, Dir: r.dir, Name: r.name, Env: append([]string{"MILLRACE_CONFIG="}, env...),
	})}
}

// stop ends the sink in order.
func (r *rig) stop() {
	r.t.Helper()
	p := r.process()
	p.killed.Store(true)
	if code := p.Stop(r.t, patience); code != 0 {
		r.t.Errorf("the sink ended with %d:\n%s", code, p.Output())
	}
}

// status is what a process says of its sink.
type status struct {
	Problem    string
	Partitions []struct {
		Partition int32
		State     string
		Position  int64
	}
}

var asking = &http.Client{Timeout: 10 * time.Second}

func (r *rig) status() (s status, err error) {
	resp, err := asking.Get("http://" + r.listen + "/v1/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	var all map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return s, err
	}
	return s, json.Unmarshal(all["sink "+r.name], &s)
}

// answer is what a command has printed, and how it ended.
type answer struct {
	code           int
	stdout, stderr string
}

// say runs a command of the binary to its end.
func (r *rig) say(args ...string) answer {
	r.t.Helper()
	p := harness.Start(r.t, harness.Command{Path: harness.Binary(r.t), Args: append([]string{"-c", "millrace.yaml"}, args...), Dir: r.dir, Name: "millrace " + args[0],
		Env: []string{"MILLRACE_CONFIG="}})
	code := p.Wait(r.t, 2*patience)
	return answer{code, p.Stdout(), strings.TrimPrefix(p.Output(), p.Stdout())}
}

// ok runs a command that must end well.
func (r *rig) ok(args ...string) string {
	r.t.Helper()
	a := r.say(args...)
	if a.code != 0 {
		r.t.Fatalf("millrace %s ended with %d:\n%s%s\nthe sink said:\n%s", strings.Join(args, " "), a.code, a.stdout, a.stderr, r.log())
	}
	return a.stdout
}

// refused runs a command that must end with 1 and say so.
func (r *rig) refused(words string, args ...string) string {
	r.t.Helper()
	a := r.say(args...)
	if a.code != 1 || !strings.Contains(a.stdout+a.stderr, words) {
		r.t.Fatalf("millrace %s ended with %d and without a word of %q:\n%s%s\nthe sink said:\n%s", strings.Join(args, " "), a.code, words, a.stdout, a.stderr, r.log())
	}
	return a.stdout
}

func (r *rig) client() *rebuild.Client {
	return rebuild.Open(r.name, kgo.SeedBrokers(r.broker.Brokers...), kgo.MetadataMinAge(100*time.Millisecond))
}

// read is what is known of the generations.
func (r *rig) read() rebuild.Record {
	r.t.Helper()
	rec, err := r.client().Read(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

// begin asks for a rebuild and returns when the sink has agreed.
func (r *rig) begin(args ...string) {
	r.t.Helper()
	r.ok(append([]string{"rebuild", r.name, "--detach"}, args...)...)
}

// until waits until the record of generations says so.
func (r *rig) until(what string, holds func(rebuild.Record) bool) rebuild.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	var last rebuild.Record
	enough := errors.New("enough")
	err := r.client().Follow(ctx, func(rec rebuild.Record) error {
		last = rec
		if holds(rec) {
			return enough
		}
		if p := r.process(); !p.Running() && !p.killed.Load() {
			return errors.New("the sink has ended")
		}
		return nil
	})
	if !errors.Is(err, enough) {
		r.t.Fatalf("waiting for %s: %v; it is\n%s\nthe sink said:\n%s", what, err, shown(last), r.log())
	}
	return last
}

// in waits for a state.
func (r *rig) in(states ...rebuild.State) rebuild.Record {
	r.t.Helper()
	return r.until(fmt.Sprint(states), func(rec rebuild.Record) bool {
		for _, s := range states {
			if rec.Rebuild != nil && rec.Rebuild.State == s {
				return true
			}
		}
		return false
	})
}

// over waits until no rebuild goes on any more.
func (r *rig) over(outcome string) rebuild.Record {
	r.t.Helper()
	return r.until("the end", func(rec rebuild.Record) bool {
		return rec.Rebuild == nil && rec.Last != nil && rec.Last.Outcome == outcome
	})
}

func shown(v any) string {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
