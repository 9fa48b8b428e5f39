package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// role is one process of the real binary, which may be killed and started again.
type role struct {
	w       *world
	name    string
	args    []string
	base    string // http://127.0.0.1:port
	process *harness.Process
	// kills counts how often it was killed at work, early how often before it had done anything since its start.
	kills, early int
	started      time.Time
	// first is what it reported first since its start, see worked; behind is how many events it had still to do.
	first  map[string]int64
	behind int64
}

// role adds a role to the world; it does not start it.
func (w *world) role(name string, args ...string) *role {
	w.t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		w.t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	r := &role{w: w, name: name, base: "http://" + listen, args: append([]string{"-c", "millrace.yaml"}, append(args, "--listen", listen)...)}
	w.roles = append(w.roles, r)
	return r
}

// logWrapper sends what a program prints to a file and becomes that program: the file is whole, however both end.
const logWrapper = `exec "$@" >>"$0" 2>&1`

func (r *role) start() {
	r.w.t.Helper()
	r.first, r.started = nil, time.Now()
	r.process = harness.Start(r.w.t, harness.Command{
		Path: "/bin/sh", Args: append([]string{"-c", logWrapper, r.log(), r.w.binary}, r.args...),
		Dir: r.w.dir, Env: []string{"DATABASE_URL=" + r.w.postgres}, Name: r.name,
	})
}

func (r *role) log() string { return filepath.Join(r.w.dir, r.name+".log") }

// kill is kill -9.
func (r *role) kill() {
	r.w.t.Helper()
	r.mustRun()
	if r.worked() {
		r.kills++
	} else {
		r.early++
	}
	r.process.Kill(r.w.t)
}

// mustRun fails the test if the process has ended by itself.
func (r *role) mustRun() {
	r.w.t.Helper()
	if r.process != nil && !r.process.Running() {
		r.w.t.Fatalf("%s ended by itself; its last lines:\n%s", r.name, r.lastLines())
	}
}

// stop asks the process to end in order.
func (r *role) stop() {
	r.w.t.Helper()
	r.mustRun()
	if code := r.process.Stop(r.w.t, 30*time.Second); code != 0 {
		r.w.t.Errorf("%s ended with %d when it was asked to stop; its last lines:\n%s", r.name, code, r.lastLines())
	}
	r.process = nil
}

const lastBytes = 4000

func (r *role) lastLines() string {
	raw, err := os.ReadFile(r.log())
	if err != nil {
		return err.Error()
	}
	if len(raw) > lastBytes {
		raw = raw[len(raw)-lastBytes:]
		raw = raw[bytes.IndexByte(raw, '\n')+1:]
	}
	return string(raw)
}

// report is what a role says of itself: of a relay the first fields, of a sink the others.
type report struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	T        int64  `json:"t"`
	Seq      int64  `json:"seq"`
	Parked   int64  `json:"parked"`
	Restarts int64  `json:"restarts"`

	Problem    string `json:"problem"`
	Lag        int64  `json:"lag"`
	Partitions []struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Position  int64  `json:"position"`
	} `json:"partitions"`
}

var asking = &http.Client{Timeout: 5 * time.Second}

// reports asks the process; an error while it does not answer.
func (r *role) reports(ctx context.Context) (map[string]report, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := asking.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", r.name, resp.Status)
	}
	var out map[string]report
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// relay is the report of a relay; the zero report while the process does not answer.
func (r *role) relay() report {
	all, err := r.reports(r.w.t.Context())
	if err != nil {
		return report{}
	}
	return all["relay "+r.w.name]
}

// worked reports whether the process has done anything since it was started: committed a transaction, moved a position.
func (r *role) worked() bool {
	r.w.t.Helper()
	all, err := r.reports(r.w.t.Context())
	if err != nil {
		return false
	}
	now := map[string]int64{}
	r.behind = 0
	for name, one := range all {
		r.behind += one.Lag
		if one.State == "leading" {
			now[name] = one.T
			r.behind = max(0, r.w.shop.mustTrade().Events-one.Seq-one.Parked)
		}
		for _, p := range one.Partitions {
			now[name+" "+place(p.Topic, p.Partition)] = p.Position
		}
	}
	if r.first == nil {
		r.first = map[string]int64{}
	}
	moved := false
	for k, v := range now {
		if was, known := r.first[k]; !known {
			r.first[k] = v
		} else if v > was {
			moved = true
		}
	}
	return moved
}

func place(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// eventually waits until ready says so. It is asked again and again, for nothing tells when another process has come so far.
func eventually(t *testing.T, what string, patience time.Duration, ready func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		ok, state := ready()
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
