//go:build cgo

package duckdb

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse/gold/goldtest"
)

func TestGold(t *testing.T) {
	goldtest.Run(t, func(t testing.TB, projections []fold.Projection) goldtest.Warehouse {
		return openGold(t, filepath.Join(t.TempDir(), "wh.duckdb"), projections)
	})
}

func openGold(t testing.TB, path string, projections []fold.Projection) *Warehouse {
	t.Helper()
	w, err := Open(Config{Path: path, Projections: projections, Threads: 1})
	for deadline := time.Now().Add(time.Minute); errors.Is(err, ErrOpen) && time.Now().Before(deadline); { // a child that was killed is about to be gone
		time.Sleep(10 * time.Millisecond)
		w, err = Open(Config{Path: path, Projections: projections, Threads: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

const goldPath = "MILLRACE_GOLD_PATH"

// A process that is killed in the middle of a build leaves the old table or the new one, whole.
func TestKilledBuildsOfGoldLeaveOldOrNewWhole(t *testing.T) {
	path := goldtest.Place(goldPath, func() string { return filepath.Join(t.TempDir(), "wh.duckdb") })
	goldtest.KillAndLook(t, "TestKilledBuildsOfGoldLeaveOldOrNewWhole", []string{goldPath + "=" + path}, func(t testing.TB) (goldtest.Warehouse, func()) {
		w := openGold(t, path, goldtest.Projections())
		return w, func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAFileThatIsCalledLikeASchemaOfGold(t *testing.T) {
	w := openGold(t, filepath.Join(t.TempDir(), "Gold.duckdb"), nil)
	if _, err := w.Gold(); err == nil || !strings.Contains(err.Error(), "rename it") {
		t.Errorf("got %v", err)
	}
}

func TestTheModelsOfTheShop(t *testing.T) {
	goldtest.Example(t, "../../../schemas/shop", func(t testing.TB, projections []fold.Projection) goldtest.Warehouse {
		return openGold(t, filepath.Join(t.TempDir(), "wh.duckdb"), projections)
	})
}
