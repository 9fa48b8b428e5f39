package harness

import (
	"os"
	"sync"
	"testing"
)

// A process that sweeps does not take the folder from one that is just making its own.
func TestAFolderInTheMakingIsNotSwept(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				dir, lock, err := makeWork()
				if err != nil {
					t.Error(err)
					return
				}
				sweepWork()
				if _, err := os.Stat(dir); err != nil {
					t.Errorf("swept: %v", err)
				}
				lock.Close()
			}
		})
	}
	all.Wait()
	sweepWork()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("%d folders are left, %v", len(left), err)
	}
}
