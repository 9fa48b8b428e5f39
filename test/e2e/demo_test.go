package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/test/harness"
)

// demoPatience is for a demo on a machine with much else to do.
const demoPatience = 5 * time.Minute

// proofs are the lines with which the demo ends.
var proofs = []string{
	"✓ committed events = events in the topics", "✓ none twice in the topics", "✓ order kept for every key",
	"✓ committed events = events in the warehouse, none twice", "✓ order kept in the warehouse",
	"✓ warehouse = the application's own tables", "✓ search documents = the application's own tables",
	"✓ the cache never served a stale price", "Proved. Nothing lost, nothing twice, every key in order.",
}

// demo is a run of the demo in a folder for temporary files of its own.
type demo struct {
	*harness.Process
	t   *testing.T
	tmp string
}

// startDemo starts it with a folder that PostgreSQL's own user can pass, as it must when the demo runs as root.
func startDemo(t *testing.T, wrap []string, args ...string) *demo {
	t.Helper()
	if testing.Short() {
		t.Skip("a run of the demo takes its time")
	}
	tmp := openFolder(t)
	line := append(append(wrap, harness.Binary(t), "demo"), args...)
	p := harness.Start(t, harness.Command{Path: line[0], Args: line[1:], Env: []string{"TMPDIR=" + tmp}, Name: "millrace demo"})
	return &demo{p, t, tmp}
}

// openFolder is a temporary folder that everybody may enter, and write to.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nothingLeft checks that neither processes nor files outlived the run.
func (d *demo) nothingLeft() {
	d.t.Helper()
	left, err := os.ReadDir(d.tmp)
	if err != nil || len(left) != 0 {
		d.t.Errorf("files left behind: %v %v", left, err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range commands {
		text, err := os.ReadFile(c)
		if err == nil && strings.Contains(string(text), d.tmp) {
			d.t.Errorf("a process is left behind: %s", strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
}

func (d *demo) proved() {
	d.t.Helper()
	if code := d.Wait(d.t, demoPatience); code != 0 {
		d.t.Fatalf("the demo ended with %d:\n%s", code, d.Output())
	}
	out := d.Stdout()
	for _, want := range append(proofs, "kill -9 ", "started again as ", "Revenue per day", "Search for ") {
		if !strings.Contains(out, want) {
			d.t.Errorf("the demo does not say %q", want)
		}
	}
	if strings.Contains(out, "\x1b") {
		d.t.Errorf("escape sequences in a pipe:\n%q", out)
	}
	if d.t.Failed() {
		d.t.Log(d.Output())
	}
}

// The demo runs to its end as an ordinary user, proves what it promises, and leaves nothing behind.
func TestTheDemoProvesItselfToAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	wrap := ordinaryUser(t)
	d := startDemo(t, wrap, "--events", "3000", "--rate", "-1")
	d.proved()
	d.nothingLeft()
}

// ordinaryUser is what is put before a command so that it does not run as root.
func ordinaryUser(t *testing.T) []string {
	if os.Geteuid() != 0 {
		return nil
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Log("as root, for there is no setpriv")
		return nil
	}
	home := openFolder(t)
	// The tree may lie where others cannot go.
	binary := filepath.Join(home, "millrace")
	if out, err := exec.Command("cp", harness.Binary(t), binary).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return []string{setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", "HOME=" + home, "sh", "-c", `shift; exec "` + binary + `" "$@"`, "sh"}
}

// Whenever a person presses Ctrl-C: everything ends, nothing stays, and the exit status says that it was stopped.
func TestTheDemoStopsCleanly(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{"while it starts": "✓ Kafka", "while the relay is dead": "kill -9 "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, nil, "--events", "2000", "--rate", "-1")
			d.WaitLine(t, at, demoPatience)
			d.Signal(t, syscall.SIGINT)
			if code := d.Wait(t, time.Minute); code != 130 {
				t.Errorf("it ended with %d", code)
			}
			if out := d.Output(); !strings.Contains(out, "stopping …") || !strings.HasSuffix(out, "millrace: stopped\n") || strings.Contains(out, "panic") {
				t.Errorf("it says\n%s", out)
			}
			d.nothingLeft()
		})
	}
}

// On real servers, and with a folder to keep: the folder holds a configuration that goes on working, and its files.
func TestTheDemoKeepsItsFolder(t *testing.T) {
	t.Parallel()
	keep := filepath.Join(openFolder(t), "out")
	d := startDemo(t, nil, "--events", "1000", "--rate", "-1", "--keep", keep)
	d.proved()
	s := &site{t: t, dir: keep}
	s.ok("config", "check")
	for _, file := range []string{"relay.log", "sinks.log", "schemas/OrderPlaced.avsc", "projections/order.yaml", "data/warehouse.duckdb"} {
		if _, err := os.Stat(filepath.Join(keep, file)); err != nil {
			t.Error(err)
		}
	}
	for _, log := range []string{"relay.log", "sinks.log"} {
		text, err := os.ReadFile(filepath.Join(keep, log))
		if err != nil || strings.Contains(string(text), "level=ERROR") || strings.Contains(string(text), "panic") {
			t.Errorf("%s: %v\n%s", log, err, text)
		}
	}
	if again := s.run("demo", "--keep", keep); again.code != 1 || !strings.Contains(again.stderr, "holds a run already") {
		t.Errorf("a second run into the same folder: %d %s", again.code, again.stderr)
	}
	d.nothingLeft()
}

// On servers that others use, too, everything of the demo has a name of its own, and is gone at the end.
func TestTheDemoLeavesNothingOnRealServers(t *testing.T) {
	t.Parallel()
	broker, registry, db, redis := harness.Kafka(t), harness.Registry(t), harness.Postgres(t), harness.Redis(t)
	d := startDemo(t, nil, "--events", "1500", "--rate", "-1", "--postgres", db.DSN, "--kafka", broker.Brokers[0], "--registry", registry, "--redis", redis.URL)
	d.proved()
	found := regexp.MustCompile(`in database (millrace_demo_[0-9a-f]{8})`).FindStringSubmatch(d.Stdout())
	if found == nil {
		t.Fatalf("it does not name its database:\n%s", d.Stdout())
	}
	name := strings.ReplaceAll(found[1], "_", "-")
	d.nothingLeft()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var databases int
	if err := db.Conn(t).QueryRow(ctx, "select count(*) from pg_database where datname = $1", found[1]).Scan(&databases); err != nil || databases != 0 {
		t.Errorf("%d databases left, %v", databases, err)
	}
	adm := kadm.NewClient(broker.Client(t))
	eventually(t, "its topics are gone", func() bool {
		topics, err := adm.ListTopicsWithInternal(ctx)
		return err == nil && !strings.Contains(fmt.Sprint(topics.Names()), name)
	})
	groups, err := adm.ListGroups(ctx)
	if err != nil || strings.Contains(fmt.Sprint(groups.Groups()), name) {
		t.Errorf("groups left: %v %v", groups.Groups(), err)
	}
	resp, err := http.Get(registry + "/subjects")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	var subjects []string
	if err != nil || json.Unmarshal(raw, &subjects) != nil || strings.Contains(string(raw), name) {
		t.Errorf("subjects left: %s %v", raw, err)
	}
	if keys, err := redis.Client(t).Keys(ctx, "*").Result(); err != nil || len(keys) != 0 {
		t.Errorf("keys left: %q %v", keys, err)
	}
}

// A server that was named and does not answer is said in one line, and what was started before it is stopped.
func TestTheDemoSaysWhichServerIsNotThere(t *testing.T) {
	t.Parallel()
	for flag, address := range map[string]string{
		"--postgres": "postgres://me:s3cret@127.0.0.1:1/x", "--kafka": "127.0.0.1:1", "--registry": "http://me:s3cret@127.0.0.1:1", "--redis": "redis://:s3cret@127.0.0.1:1",
	} {
		t.Run(strings.TrimPrefix(flag, "--"), func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, nil, flag, address)
			if code := d.Wait(t, patience); code != 1 {
				t.Errorf("it ended with %d", code)
			}
			out := d.Output()
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "millrace: "+flag+": ") || strings.Contains(out, "s3cret") {
				t.Errorf("it says\n%s", out)
			}
			d.nothingLeft()
		})
	}
}
