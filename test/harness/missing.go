package harness

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// MissingError says that a part is not on this machine and how to get it.
type MissingError struct {
	Part    string // what is missing, such as "redis"
	Reason  string // why it is not there
	Install string // the command that installs it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing: %s; install it with: %s", e.Part, e.Reason, e.Install)
}

// reportEnv names a file to which skipped tests add a line each, for the
// summary at the end of the run.
const reportEnv = "MILLRACE_TEST_REPORT"

// inCI reports whether a missing part is a failure.
func inCI() bool {
	v := os.Getenv("CI")
	return v != "" && v != "false" && v != "0"
}

// Missing ends the test because a part is not there: by failing it with CI set,
// by skipping it otherwise. It is for tests that need something the harness does
// not start, such as Python.
//
// Guarantee 2: the message names the part and the command that installs it.
func Missing(t testing.TB, missing *MissingError) {
	t.Helper()
	if inCI() {
		t.Fatalf("%v (with CI set a missing part is a failure)", missing)
	}
	report(t.Name(), missing)
	t.Skipf("NOT RUN: %v", missing)
}

// must ends the test on err: as a missing part if that is what it is.
func must(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var missing *MissingError
	if errors.As(err, &missing) {
		Missing(t, missing)
	}
	t.Fatal(err)
}

// skipShort keeps Java servers out of -short runs.
//
// Guarantee 3: with -short no Java server is started.
func skipShort(t testing.TB, part string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("%s is a Java server: not started with -short", part)
	}
}

// report adds a line to the summary of the run. A summary that cannot be
// written is no reason to fail a test: the skip itself says the same.
func report(test string, missing *MissingError) {
	path := os.Getenv(reportEnv)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	line := strings.Join([]string{missing.Part, missing.Install, test}, "\t")
	fmt.Fprintln(f, strings.ReplaceAll(line, "\n", " "))
}
