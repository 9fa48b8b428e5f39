package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
	"github.com/millrace/millrace/test/harness"
)

// relay is the real binary at work, a process of its own.
type relay struct {
	site    *site
	process *harness.Process
	base    string // http://127.0.0.1:port
	started time.Time
}

// startRelay starts `millrace relay`. It does not wait.
func (s *site) startRelay() (*relay, error) {
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	r := &relay{site: s, base: "http://" + listen, started: time.Now()}
	r.process, err = harness.StartProcess(harness.Command{
		Path: s.rig.binary, Args: []string{"-c", s.file(), "relay", "--listen", listen}, Dir: s.dir, Name: "relay",
	})
	return r, err
}

func (r *relay) pid() int { return r.process.PID() }

// cpu is what the process has used so far, in seconds.
func (r *relay) cpu() float64 { return measure.CPU(r.pid()) }

// alive returns an error with the last output if the process has ended by itself.
func (r *relay) alive() error {
	if r.process.Running() {
		return nil
	}
	return fmt.Errorf("the relay of %s ended by itself; its last output:\n%s", r.site.name, last(r.process.Output(), 20))
}

// stop asks the process to end in order.
func (r *relay) stop() { r.process.End(syscall.SIGTERM) }

// kill is kill -9.
func (r *relay) kill() { r.process.End(syscall.SIGKILL) }

// report is what is read of a relay's own status.
type report struct {
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Seq       int64  `json:"seq"`
	T         int64  `json:"t"`
	Published int64  `json:"published"`
	Parked    int64  `json:"parked"`
	Restarts  int64  `json:"restarts"`
}

var asking = &http.Client{Timeout: 5 * time.Second}

func (r *relay) status(ctx context.Context) (report, error) {
	var all map[string]report
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/v1/status", nil)
	if err != nil {
		return report{}, err
	}
	resp, err := asking.Do(req)
	if err != nil {
		return report{}, fmt.Errorf("ask the relay for its status: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return report{}, fmt.Errorf("read the relay's status: %w", err)
	}
	return all["relay "+r.site.name], nil
}

// sliceOf is how many events a Kafka transaction held on average between two reports.
func sliceOf(before, after report) float64 {
	return float64(after.Seq-before.Seq) / float64(max(1, after.T-before.T))
}

// startPatience is how long a relay may take to do what it is waited for.
const startPatience = 60 * time.Second

// waitFor asks for the status until it is as wanted.
func (r *relay) waitFor(ctx context.Context, what string, ok func(report) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("the relay did not get to it in %v: %s", startPatience, what))
	defer cancel()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		if err := r.alive(); err != nil {
			return err
		}
		if s, err := r.status(ctx); err == nil && ok(s) {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leading waits until the relay publishes.
func (r *relay) leading(ctx context.Context) error {
	return r.waitFor(ctx, "to lead", func(s report) bool { return s.State == "leading" })
}

// caughtUp waits until the relay has published n events since the outbox was made.
func (r *relay) caughtUp(ctx context.Context, n int64) error {
	return r.waitFor(ctx, fmt.Sprintf("to publish %d events", n), func(s report) bool { return s.Seq >= n })
}

func last(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
