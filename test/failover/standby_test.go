package failover

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// program is the real binary on this outbox.
type program struct {
	w      *world
	binary string
	dir    string
}

func (w *world) program() *program {
	w.t.Helper()
	p := &program{w: w, binary: harness.Binary(w.t), dir: w.t.TempDir()}
	config := fmt.Sprintf("kafka: {brokers: [%q]}\nregistry: {url: %q}\nhttp: {listen: \"127.0.0.1:0\"}\noutboxes:\n  %s:\n    postgres: ${DATABASE_URL}\n    topics: {%s: {partitions: %d}}\n",
		w.brokers[0], harness.Registry(w.t), w.name, w.topic, partitions)
	if err := os.WriteFile(filepath.Join(p.dir, "millrace.yaml"), []byte(config), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// run runs a command to its end and returns its exit status and what it printed.
func (p *program) run(args ...string) (code int, stdout, stderr string) {
	p.w.t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(p.w.t.Context(), p.binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &out, &errs
	cmd.Env = append(os.Environ(), "DATABASE_URL="+p.w.dsn)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.w.t.Fatalf("%v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (p *program) relay() *harness.Process {
	p.w.t.Helper()
	return harness.Start(p.w.t, harness.Command{Path: p.binary, Args: []string{"relay"}, Dir: p.dir, Env: []string{"DATABASE_URL=" + p.w.dsn}})
}

// caughtUp waits until nothing is left to publish.
func (w *world) caughtUp() {
	w.t.Helper()
	eventually(w.t, "the relay to publish everything", func() error {
		p, err := relay.Inspect(w.t.Context(), w.config())
		if err != nil || p.T == 0 || p.Behind > 0 {
			return fmt.Errorf("%+v, %v", p, err)
		}
		return nil
	})
}

// Failed over to an asynchronous standby that lacks the last transactions: the relay of the real binary notices and stops, the
// command lists exactly what was lost, and after it the relay goes on, with writers that never stopped.
func TestFailedOverToAStandbyThatLacksCommits(t *testing.T) {
	t.Parallel()
	primary := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	w := newWorld(t, primary.DSN)
	p := w.program()
	leader := p.relay()
	w.write(60)
	standby := primary.Standby(t)
	w.write(60)
	standby.CatchUp(t, primary)
	standby.CutOff(t)
	kept := w.events()
	w.write(40)
	w.parkOne("k1")
	w.caughtUp()
	lost := int(w.events() - kept - 1)

	// The relay's address leads to whichever of the two is there, as a virtual one would.
	standby.Promote(t)
	both := strings.Replace(primary.DSN, fmt.Sprintf("127.0.0.1:%d", primary.Port), fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", primary.Port, standby.Port), 1)
	leader.Stop(t, 30*time.Second)
	w.dsn = both
	leader = p.relay()
	leader.WaitLine(t, "relay publishes", 30*time.Second)
	primary.Kill(t)
	w.dsn = standby.DSN
	w.open()
	if code := leader.Wait(t, time.Minute); code != 1 {
		t.Errorf("the relay ended with %d", code)
	}
	said := leader.Output()
	for _, want := range []string{"another timeline", "timeline 2, the cursor has 1", "millrace relay re-anchor"} {
		if !strings.Contains(said, want) {
			t.Errorf("the relay does not say %q:\n%s", want, said)
		}
	}

	w.write(20)
	w.dryRun(lost, 1)
	code, out, errs := p.run("relay", "re-anchor", "--dry-run", "-o", "json")
	var answer struct {
		Lost   []relay.LostEvent
		Report relay.Anchorage
	}
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil {
		t.Fatalf("exit status %d, %v: %s%s", code, err, out, errs)
	}
	w.checkLost(answer.Lost, lost, 1)
	if code, _, errs = p.run("relay", "re-anchor"); code != 2 || !strings.Contains(errs, "--yes") {
		t.Errorf("nobody was asked, and it ended with %d: %s", code, errs)
	}
	stop := w.background()
	code, out, errs = p.run("relay", "re-anchor", "--yes")
	stop()
	t.Logf("re-anchor:\n%s%s", out, errs)
	if code != 0 || !strings.Contains(out, fmt.Sprintf("%d events", lost+1)) || !strings.Contains(out, "Re-anchored:") {
		t.Fatalf("exit status %d: %s%s", code, out, errs)
	}
	leader = p.relay()
	w.write(20)
	w.caughtUp()
	w.check(answer.Lost, nil)
	if code, out, errs = p.run("relay", "re-anchor", "--yes"); code != 1 || !strings.Contains(errs, "stop it first") {
		t.Errorf("re-anchored beside a relay, with exit status %d: %s%s", code, out, errs)
	}
	leader.Stop(t, 30*time.Second)
	if code, out, _ = p.run("relay", "re-anchor", "--yes"); code != 0 || !strings.Contains(out, "nothing to re-anchor") {
		t.Errorf("exit status %d where nothing is to be done: %s", code, out)
	}
}
