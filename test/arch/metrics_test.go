package arch

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metricName is the name of a metric of sinks, as code gives it and as the table has it.
var metricName = regexp.MustCompile(`["` + "`" + `](millrace_(?:consumer|fold|warehouse|search|cache|webhook|purge|gold|verify|rebuild)_[a-z_]+)["` + "`" + `]`)

// Every metric of a sink is in the table of what an operator watches, and the table has no other.
func TestMetricsOfSinksAreInOneTable(t *testing.T) {
	consumers := filepath.Join("..", "..", "consumers")
	inCode := map[string]bool{}
	err := filepath.WalkDir(consumers, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		return names(path, inCode)
	})
	if err != nil {
		t.Fatal(err)
	}
	inTable := map[string]bool{}
	if err := names(filepath.Join(consumers, "README.md"), inTable); err != nil {
		t.Fatal(err)
	}
	if len(inCode) < 20 {
		t.Errorf("only %d metrics were found: %q", len(inCode), slices.Sorted(maps.Keys(inCode)))
	}
	for _, name := range slices.Sorted(maps.Keys(inCode)) {
		if !inTable[name] {
			t.Errorf("%s is not in the table of consumers/README.md", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inTable)) {
		if !inCode[name] {
			t.Errorf("consumers/README.md tells of %s, which no sink has", name)
		}
	}
}

// names collects the names of metrics that stand in a file.
func names(path string, into map[string]bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, m := range metricName.FindAllStringSubmatch(string(text), -1) {
		into[m[1]] = true
	}
	return nil
}
