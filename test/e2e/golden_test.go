package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write what is printed to testdata/golden")

// What differs from run to run gets a text of the same width, so that tables stay as they are.
var unstable = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`post-[0-9a-f]{8}`), "post-01234567"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "01234567-89ab-cdef-0123-456789abcdef"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "0123456789abcdef0123456789abcdef"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "2000-01-01T00:00:00Z"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "2000-01-01 00:00:00"},
	{regexp.MustCompile(`\b[\d.]+(ns|µs|ms|s|m\d+s) ago`), "1s ago"},
	{regexp.MustCompile(`, [\d.]+(µs|ms|s)\)`), ", 1ms)"},
	{regexp.MustCompile(`RETAINED +`), "RETAINED  "},
	{regexp.MustCompile(`\b[\d.]+ ([KMG]i)?B(, [\d.]+(ns|µs|ms|s|m\d+s))?  +`), "1.0 MiB, 1s  "},
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}`), "127.0.0.1:12345"},
}

// golden holds what was printed against a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, u := range unstable {
		got = u.pattern.ReplaceAllString(got, u.instead)
	}
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
