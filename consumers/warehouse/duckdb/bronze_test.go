//go:build cgo

package duckdb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// Offsets that nobody kept, however many, and payloads of any size: every record comes.
func TestRecordsPassGapsAndSizes(t *testing.T) {
	w := openAt(t, filepath.Join(t.TempDir(), "wh.duckdb"), orders)
	c, err := w.Claim(context.Background(), tp0)
	if err != nil {
		t.Fatal(err)
	}
	var want []int64
	b := fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, Next: 1 << 40}
	for i := range int64(40) {
		offset := i * i * i * i * 1000
		size := 10
		if i%7 == 0 {
			size = 2 << 20
		}
		want = append(want, offset)
		b.Events = append(b.Events, consumers.Event{TopicPartition: tp0, Offset: offset, Key: "k", Seq: offset + 1, Time: noon, Payload: make([]byte, size)}.WithFields(map[string]any{}))
	}
	if err := w.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	var got []int64
	err = w.Records(context.Background(), tp0, 0, 1<<40, func(r *kgo.Record) error { got = append(got, r.Offset); return nil })
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d records, want %d: %v, %v", len(got), len(want), got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("record %d is at %d, want %d", i, got[i], want[i])
		}
	}
}

// A table of many pieces is handed over once, whatever was deleted and written anew in it.
func TestSnapshotsOfManyStates(t *testing.T) {
	const n = 3*snapshotRows + 7
	w := openAt(t, filepath.Join(t.TempDir(), "wh.duckdb"), orders)
	c, err := w.Claim(context.Background(), tp0)
	if err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) { // the second one replaces every third state
		b := fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, From: round * n, Next: (round + 1) * n, Changes: map[string][]fold.Change{}}
		for i := int64(0); i < n; i += 1 + 2*round {
			s := projection.State{Exists: true, Values: []any{"x", nil, nil, nil, i}}
			b.Changes["order"] = append(b.Changes["order"], fold.Change{Key: fmt.Sprintf("k%06d", i), Stored: fold.Stored{State: s, Version: round*n + i + 1, Time: noon}})
		}
		if err := w.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int64{}
	err = s.States(context.Background(), "order", func(key string, s fold.Stored) error {
		if _, twice := seen[key]; twice {
			return fmt.Errorf("%s comes twice", key)
		}
		seen[key] = s.Version
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil || len(seen) != n {
		t.Fatalf("%d states, want %d: %v", len(seen), n, err)
	}
	for i := range int64(n) {
		want := i + 1
		if i%3 == 0 {
			want += n
		}
		if got := seen[fmt.Sprintf("k%06d", i)]; got != want {
			t.Fatalf("state %d has version %d, want %d", i, got, want)
		}
	}
}
