//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

// What is kept of events is what Config.Bronze says; states are kept in any case.
func TestBronzeKeepsWhatItIsTold(t *testing.T) {
	for kind, want := range map[warehouse.Bronze]string{warehouse.BronzeJSON: "1 with fields", warehouse.BronzePayload: "1 without", warehouse.BronzeOff: "0 without"} {
		w, err := Open(Config{Path: filepath.Join(t.TempDir(), "wh.duckdb"), Bronze: kind, Projections: []fold.Projection{orders}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.Claim(context.Background(), tp0)
		if err != nil {
			t.Fatal(err)
		}
		ev := consumers.Event{TopicPartition: tp0, Key: "a", Seq: 1, Time: noon, Payload: []byte("p")}.WithFields(map[string]any{"n": int64(1)})
		err = w.Commit(context.Background(), fold.Commit{
			TopicPartition: tp0, Epoch: c.Epoch, Next: 1, Events: []consumers.Event{ev},
			Changes: map[string][]fold.Change{"order": {{Key: "a", Stored: fold.Stored{Version: 1, Time: noon, State: projection.State{Exists: true, Values: make([]any, len(orders.columns))}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		err = w.read(context.Background(), `SELECT count(*) || CASE WHEN count(data) > 0 THEN ' with fields' ELSE ' without' END FROM bronze.events`, nil,
			func(row []driver.Value) error { got = row[0].(string); return nil })
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", kind, got, err, want)
		}
		if w.ReadsEvents() != (kind == warehouse.BronzeJSON) {
			t.Errorf("%s: reads events: %v", kind, w.ReadsEvents())
		}
		if states, err := w.Load(context.Background(), "order", []string{"a"}); err != nil || !states["a"].Exists {
			t.Errorf("%s: the state is %v, %v", kind, states["a"], err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "wh.duckdb"), Bronze: "all"}); err == nil || !strings.Contains(err.Error(), "none of json, payload, off") {
		t.Errorf("another word: %v", err)
	}
}
