package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeTB records how a test ended.
type fakeTB struct {
	testing.TB
	skipped, failed string
}

func (f *fakeTB) Helper()      {}
func (f *fakeTB) Name() string { return "TestSomething" }
func (f *fakeTB) Skipf(format string, args ...any) {
	f.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
func (f *fakeTB) Fatal(args ...any) { f.Fatalf("%v", args...) }

// ending runs a test on a fake and returns how it ended.
func ending(test func(testing.TB)) *fakeTB {
	f := &fakeTB{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	return f
}

func TestGuarantee2AMissingPartIsNamedWithItsInstallCommand(t *testing.T) {
	redis := &MissingError{Part: "redis", Reason: "redis-server is not installed", Install: "apt-get install -y redis-server"}
	reportFile := filepath.Join(t.TempDir(), "missing")
	if err := os.WriteFile(reportFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(reportEnv, reportFile)

	t.Setenv("CI", "")
	got := ending(func(t testing.TB) { must(t, errors.Join(redis)) })
	if got.failed != "" || !strings.Contains(got.skipped, redis.Install) || !strings.Contains(got.skipped, redis.Part) {
		t.Errorf("without CI: failed %q, skipped %q; want a skip that names part and command", got.failed, got.skipped)
	}
	t.Setenv("CI", "true")
	got = ending(func(t testing.TB) { must(t, redis) })
	if got.skipped != "" || !strings.Contains(got.failed, redis.Install) || !strings.Contains(got.failed, redis.Part) {
		t.Errorf("with CI: failed %q, skipped %q; want a failure that names part and command", got.failed, got.skipped)
	}

	var out bytes.Buffer
	n, err := (&Servers{report: reportFile}).Summary(&out)
	if err != nil || n != 1 {
		t.Fatalf("summary of %d skipped tests, %v; want the one skipped without CI", n, err)
	}
	for _, want := range []string{"NOT RUN", redis.Part, redis.Install, "TestSomething"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("summary %q does not say %q", out.String(), want)
		}
	}
}

func TestGuarantee2RedisIsMissingWithoutItsProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var missing *MissingError
	if _, err := startRedis(); !errors.As(err, &missing) || missing.Part != "redis" {
		t.Fatalf("start without redis-server: %v, want a missing part", err)
	}
}

func TestGuarantee2KafkaIsMissingWithoutMaven(t *testing.T) {
	java := filepath.Join(t.TempDir(), "bin", "java")
	if err := os.MkdirAll(filepath.Dir(java), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(java, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MILLRACE_CACHE", t.TempDir()) // nothing fetched yet
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	var missing *MissingError
	if _, err := startKafka(KafkaOptions{}); !errors.As(err, &missing) || !strings.Contains(missing.Install, "jre") {
		t.Fatalf("start without Java: %v, want a missing part", err)
	}
	t.Setenv("JAVA_HOME", filepath.Dir(filepath.Dir(java)))
	if _, err := startKafka(KafkaOptions{}); !errors.As(err, &missing) || !strings.Contains(missing.Install, "maven") {
		t.Fatalf("start without Maven: %v, want a missing part", err)
	}
}
