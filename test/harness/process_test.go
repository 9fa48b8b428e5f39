package harness_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// eventually waits until ok, for things that only the kernel knows of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// running reports whether a process runs; one that is dead but not asked after does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func shell(t *testing.T, script string) *harness.Process {
	t.Helper()
	return harness.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c", script}, Name: "script"})
}

func TestProcessKeepsItsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo out; echo err >&2; echo 'the line'; exit 7")
	if line := p.WaitLine(t, "line", time.Minute); line != "the line" {
		t.Fatalf("waited for %q", line)
	}
	if code := p.Wait(t, time.Minute); code != 7 {
		t.Fatalf("exit code %d, want 7", code)
	}
	if p.Stdout() != "out\nthe line\n" {
		t.Fatalf("standard output %q", p.Stdout())
	}
	if !strings.Contains(p.Output(), "err\n") {
		t.Fatalf("output without standard error: %q", p.Output())
	}
}

func TestProcessCanBeFrozenAndKilled(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo up; while :; do sleep 1; done")
	p.WaitLine(t, "up", time.Minute)
	p.Freeze(t)
	eventually(t, "the process is stopped", func() bool { return state(t, p.PID()) == "T" })
	p.Thaw(t)
	eventually(t, "the process goes on", func() bool { return state(t, p.PID()) != "T" })
	p.Kill(t)
	if p.Running() || running(p.PID()) {
		t.Fatal("killed, but runs")
	}
}

func state(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		t.Skip("no /proc to read a process's state from")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(stat[strings.LastIndexByte(string(stat), ')')+2:][:1])
}

func TestProcessStopReturnsTheExitCode(t *testing.T) {
	t.Parallel()
	p := shell(t, "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
	p.WaitLine(t, "up", time.Minute)
	if code := p.Stop(t, time.Minute); code != 3 {
		t.Fatalf("exit code %d, want 3", code)
	}
}

// helperEnv turns TestGuarantee1ServersDieWithTheirParent, run in a second process,
// into the parent that is killed.
const helperEnv = "MILLRACE_HARNESS_HELPER"

// doomedParent starts servers, prints their process ids and waits for its end.
func doomedParent(t *testing.T) {
	fmt.Println("pid", harness.PostgresServer(t, harness.PostgresOptions{}).PID())
	if !testing.Short() {
		fmt.Println("pid", harness.KafkaServer(t, harness.KafkaOptions{}).PID())
	}
	fmt.Println("all up")
	select {}
}

func TestGuarantee1ServersDieWithTheirParent(t *testing.T) {
	if os.Getenv(helperEnv) != "" {
		doomedParent(t)
	}
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("only Linux has a parent-death signal")
	}
	tmp := sharedTemp(t)
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	helper := harness.Start(t, harness.Command{Path: os.Args[0], Args: args, Name: "helper",
		Env: []string{helperEnv + "=1", "TMPDIR=" + tmp}})
	helper.WaitLine(t, "all up", 3*time.Minute)
	var pids []int
	for line := range strings.Lines(helper.Stdout()) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "pid "); ok {
			pid, err := strconv.Atoi(text)
			if err != nil || !running(pid) {
				t.Fatalf("helper's server %q does not run (%v)", text, err)
			}
			pids = append(pids, pid)
		}
	}
	helper.Kill(t)
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("server %d is gone", pid), func() bool { return !running(pid) })
	}

	// The folder it left is swept by the next process that makes one there.
	next := harness.Start(t, harness.Command{Path: os.Args[0], Args: []string{"-test.run=^TestRedisGives", "-test.v"}, Name: "next",
		Env: []string{"TMPDIR=" + tmp, harness.RedisEnv + "="}})
	if code := next.Wait(t, time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, next.Output())
	}
	left, err := filepath.Glob(filepath.Join(tmp, "millrace-test-*"))
	if err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

// sharedTemp returns a temporary folder that other users may enter.
func sharedTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "millrace-guarantee1-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
