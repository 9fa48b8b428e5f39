package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// CGO_ENABLED=0 builds the binary, without DuckDB and saying so wherever somebody asks for it.
func TestWithoutCgoTheBinarySaysWhatItLacks(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds everything a second time")
	}
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "millrace")
	build := exec.Command("go", "build", "-o", binary, "./services/millrace")
	build.Dir, build.Env = harness.Root(t), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := paper(t)
	s.binary = binary
	if out := s.ok("version"); !strings.Contains(out, "without DuckDB (built with CGO_ENABLED=0)") {
		t.Errorf("version says\n%s", out)
	}
	if v := asJSON[map[string]any](s, "version"); v["duckdb"] != false {
		t.Errorf("version says %v", v)
	}
	const why = "duckdb: this program was built without cgo and so without DuckDB; build it with CGO_ENABLED=1 and a C++ compiler"
	if out := s.ok("config", "check"); !strings.Contains(out, "note: sinks."+s.name+"-warehouse cannot run here: kind: "+why) || !strings.Contains(out, ": ok (") {
		t.Errorf("config check says\n%s", out)
	}
	want := "millrace: millrace.yaml:15: sinks." + s.name + "-warehouse.kind: " + why + "\n"
	for _, args := range [][]string{{"up"}, {"sink", s.name + "-warehouse"}} {
		if got := s.fails(2, args...); got != want {
			t.Errorf("%s says\n%swant\n%s", args, got, want)
		}
	}
	if got := s.fails(1, "demo"); !strings.Contains(got, "the demo has a warehouse: ") || !strings.Contains(got, "built without cgo") {
		t.Errorf("demo says %s", got)
	}
	// What needs no DuckDB runs: here the relay, which waits for its servers.
	relay := s.start("relay", "--listen", "127.0.0.1:0")
	relay.WaitLine(t, "relay started", patience)
	if code := relay.Stop(t, patience); code != 0 {
		t.Errorf("relay ended with %d", code)
	}
}
