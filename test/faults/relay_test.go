package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// relay is one process of the real binary.
type relay struct {
	w       *world
	name    string
	base    string // http://127.0.0.1:port
	process *harness.Process
}

// crashAt and freezeAt are the environment of a binary that ends or stops itself when it comes to a point for the given time:
// "fence", "fenced", "first", "claimed", "produced", "committing", "committed".
func crashAt(point string, times int) string {
	return fmt.Sprintf("MILLRACE_CRASH_POINT=%s:%d", point, times)
}

func freezeAt(point string, times int) string {
	return fmt.Sprintf("MILLRACE_FREEZE_POINT=%s:%d", point, times)
}

// start starts a relay. env is added to its environment.
func (w *world) start(name string, env ...string) *relay {
	w.t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		w.t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	r := &relay{w: w, name: name, base: "http://" + listen}
	r.process = harness.Start(w.t, harness.Command{
		Path: w.binary, Args: []string{"-c", "millrace.yaml", "relay", "--listen", listen}, Dir: w.dir, Name: name,
		Env: append([]string{"DATABASE_URL=" + w.dsn, "MILLRACE_CONFIG="}, env...),
	})
	w.relays = append(w.relays, r)
	return r
}

// report is what a relay says of itself.
type report struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	T        int64  `json:"t"`
	Seq      int64  `json:"seq"`
	Row      int64  `json:"row"`
	Backlog  int64  `json:"backlog"`
	Parked   int64  `json:"parked"`
	Restarts int64  `json:"restarts"`
}

var asking = &http.Client{Timeout: 5 * time.Second}

// ask returns the relay's report; the zero report while it does not answer.
func (r *relay) ask() report {
	var all map[string]report
	if err := r.get("/v1/status", &all); err != nil {
		return report{}
	}
	return all["relay "+r.w.name]
}

func (r *relay) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := asking.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// until waits until the relay says what is wanted of it. One that has ended fails the test.
func (r *relay) until(what string, holds func(report) bool) report {
	r.w.t.Helper()
	var now report
	eventually(r.w.t, r.name+": "+what, func() (bool, string) {
		if !r.process.Running() {
			r.w.t.Fatalf("%s ended by itself while it was waited for: %s", r.name, what)
		}
		now = r.ask()
		return holds(now), fmt.Sprintf("%+v", now)
	})
	return now
}

func leads(s report) bool   { return s.State == "leading" }
func standby(s report) bool { return s.State == "standby" && s.Reason == "" }

// published is wanted when so many events are published.
func published(events int64) func(report) bool {
	return func(s report) bool { return leads(s) && s.Seq >= events }
}

// waitPoint waits until the process has stopped, or killed, itself at its point.
func (r *relay) waitPoint() {
	r.w.t.Helper()
	r.process.WaitLine(r.w.t, " point ", patience)
}

// waitKilled waits until the process has killed itself at its point.
func (r *relay) waitKilled() {
	r.w.t.Helper()
	r.waitPoint()
	if code := r.process.Wait(r.w.t, patience); code != -1 {
		r.w.t.Fatalf("%s ended with status %d, and not by its own hand", r.name, code)
	}
}

// stop asks the relay to end in order.
func (r *relay) stop() {
	r.w.t.Helper()
	if code := r.process.Stop(r.w.t, patience); code != 0 {
		r.w.t.Errorf("%s ended with status %d when it was asked to stop", r.name, code)
	}
}

// stops waits until the relay has ended by itself, and returns what it said. It must have said the text.
func (r *relay) stops(text string) {
	r.w.t.Helper()
	code := r.process.Wait(r.w.t, patience)
	said := r.process.Output()
	if code == 0 || !strings.Contains(said, text) {
		r.w.t.Fatalf("%s ended with status %d and without a word of %q:\n%s", r.name, code, text, said)
	}
	r.w.t.Logf("%s: %s", r.name, lastLine(said))
}

// lines returns what the relay has printed after the first n bytes, line by line.
func (r *relay) lines(after int) []string {
	text := strings.TrimSpace(r.process.Output()[after:])
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// patience is how long anything may take that is waited for, on a machine with much else to do.
const patience = 2 * time.Minute

// eventually waits until a condition holds. It is asked again and again, for nothing tells when another process has come so far.
func eventually(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		ok, state := holds()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("after %v still waiting: %s; %s", patience, what, state)
		}
	}
}
