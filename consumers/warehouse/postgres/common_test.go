package postgres

import (
	"fmt"
	"sync/atomic"
	"testing"
)

var schemas atomic.Int64

// unique is a Config.Schema that no other test of the database has.
func unique(testing.TB) string { return fmt.Sprintf("t%d", schemas.Add(1)) }

func openAt(t testing.TB, cfg Config) *Warehouse {
	t.Helper()
	w, err := Open(cfg)
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
