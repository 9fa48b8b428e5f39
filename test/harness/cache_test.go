package harness

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// flock is held by an open file, not by a process, so goroutines contend for
// it as processes do.
func TestGuarantee4ManyAtOnceFetchOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var fills atomic.Int32
	fill := func(dir string) error {
		fills.Add(1)
		return os.WriteFile(filepath.Join(dir, "part"), []byte("whole"), 0o644)
	}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			got, err := cached(dir, "thing", fill)
			if err != nil {
				t.Error(err)
				return
			}
			if text, err := os.ReadFile(filepath.Join(got, "part")); err != nil || string(text) != "whole" {
				t.Errorf("found %q, %v", text, err)
			}
		})
	}
	group.Wait()
	if n := fills.Load(); n != 1 {
		t.Fatalf("fetched %d times, want once", n)
	}
}

func TestAFailedFetchIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	away := errors.New("away")
	_, err := cached(dir, "thing", func(dir string) error {
		return errors.Join(away, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
	})
	if !errors.Is(err, away) {
		t.Fatalf("error %v, want the fetch's", err)
	}
	got, err := cached(dir, "thing", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(got); err != nil || len(left) != 0 {
		t.Fatalf("a failed fetch left %v (%v) in the next", left, err)
	}
}
