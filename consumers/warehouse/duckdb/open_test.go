//go:build cgo

package duckdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

// wantRefused opens a warehouse that cannot be opened, for a reason that no retry helps against.
func wantRefused(t *testing.T, cfg Config, want error, text string) {
	t.Helper()
	w, err := Open(cfg)
	if err == nil {
		_ = w.Close()
		t.Fatal("it was opened")
	}
	if want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) || consumers.Classify(err) != consumers.Systemic {
		t.Errorf("got %v, class %d; want %v with %q, systemic", err, consumers.Classify(err), want, text)
	}
}

func TestAChangedDeclarationNeedsARebuild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wh.duckdb")
	open := func(p ...fold.Projection) *Warehouse {
		w, err := Open(Config{Path: path, Projections: p})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	shut := func(w *Warehouse) {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	was, before := open(orders), consumers.TopicPartition{Topic: "before"}
	c, err := was.Claim(context.Background(), before)
	if err == nil {
		err = was.Commit(context.Background(), fold.Commit{TopicPartition: before, Epoch: c.Epoch, From: 0, Next: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	shut(was)
	shut(open(orders)) // the same again
	changed := orders
	changed.digest = "fedcba9876543210"
	wantRefused(t, Config{Path: path, Projections: []fold.Projection{changed}}, ErrRebuild, "as another generation")

	refunds := declared{entity: "refund", topic: orders.topic, digest: "1", columns: orders.columns}
	w := open(orders, refunds) // nothing of the topic has gone by
	c, err = w.Claim(context.Background(), tp0)
	if err == nil {
		err = w.Commit(context.Background(), fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, From: 0, Next: 5})
	}
	if err != nil {
		t.Fatal(err)
	}
	shut(w)
	returns := declared{entity: "return", topic: orders.topic, digest: "1", columns: orders.columns}
	wantRefused(t, Config{Path: path, Projections: []fold.Projection{orders, refunds, returns}}, ErrRebuild, "entity return")
	other := declared{entity: "return", topic: "another.topic", digest: "1", columns: orders.columns}
	shut(open(orders, other)) // one entity fewer, and one of a topic not begun
}

// Promise 4: an entity that was not declared while its topic went on has missed events; its states are not gone on from.
func TestPromise4AnEntityThatWasLeftOutNeedsARebuild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wh.duckdb")
	returns := declared{entity: "return", topic: orders.topic, digest: "1", columns: orders.columns}
	visit := func(from, next int64, p ...fold.Projection) {
		t.Helper()
		w, err := Open(Config{Path: path, Projections: p})
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.Claim(context.Background(), tp0)
		if err == nil && next > from {
			err = w.Commit(context.Background(), fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, From: from, Next: next})
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	visit(0, 5, orders, returns)
	visit(5, 5, orders) // left out, and nothing goes by
	visit(5, 7, orders, returns)
	visit(7, 9, orders) // left out, and two events go by
	wantRefused(t, Config{Path: path, Projections: []fold.Projection{orders, returns}}, ErrRebuild, "entity return")
	visit(9, 9, orders) // which is still as it was
	wantRefused(t, Config{Path: path, Projections: []fold.Projection{orders, returns}}, ErrRebuild, "not declared for a while")
}

func TestAFileIsOpenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wh.duckdb")
	w := openAt(t, path)
	wantRefused(t, Config{Path: path}, ErrOpen, "in this process")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}

func TestWrongConfigurationsNameTheField(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("not a database, and longer than its header would be"+strings.Repeat(".", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]Config{
		"Path is missing":        {},
		"without ?":              {Path: dir + "/a?b"},
		"must be the name":       {Path: ":memory:"},
		"schema in it":           {Path: dir + "/silver.duckdb"},
		"MemoryBytes":            {Path: dir + "/a.db", MemoryBytes: 1},
		"numbered from 1":        {Path: dir + "/a.db", Generation: -1},
		"two projections":        {Path: dir + "/a.db", Projections: []fold.Projection{orders, orders}},
		"not a directory":        {Path: file + "/a.db"},
		"open warehouse " + file: {Path: file},
		"cannot be negative":     {Path: dir + "/a.db", Threads: -1},
		"column d":               {Path: dir + "/b.db", Projections: []fold.Projection{declared{entity: "x", columns: []projection.Column{{Name: "d", Type: projection.Type{Kind: projection.Decimal, Precision: 39}}}}}},
	}
	for text, cfg := range cases {
		t.Run(text, func(t *testing.T) { wantRefused(t, cfg, nil, text) })
	}
}

func TestAfterCloseNothingGoesThrough(t *testing.T) {
	w := openAt(t, filepath.Join(t.TempDir(), "wh.duckdb"), orders)
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, claim := w.Claim(ctx, tp0)
	_, load := w.Load(ctx, "order", []string{"x"})
	_, positions := w.Positions(ctx)
	_, query := w.Query(ctx, "select 1", warehouse.Limits{})
	for what, err := range map[string]error{"claim": claim, "load": load, "positions": positions, "query": query, "commit": w.Commit(ctx, fold.Commit{})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Batches of several lanes share a transaction; one that does not belong there is refused alone.
func TestLanesShareATransaction(t *testing.T) {
	w := openAt(t, filepath.Join(t.TempDir(), "wh.duckdb"), orders)
	const lanes = 8
	epochs := make([]int64, lanes)
	for i := range epochs {
		c, err := w.Claim(context.Background(), consumers.TopicPartition{Topic: orders.topic, Partition: int32(i)})
		if err != nil {
			t.Fatal(err)
		}
		epochs[i] = c.Epoch
	}
	epochs[3]++ // of nobody
	// The writer stands still in a first transaction until every lane has its batch ready.
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	commits := 0
	w.hook = func(point string) error {
		if point == "before commit" {
			commits++
			once.Do(func() { close(entered); <-release })
		}
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := w.Claim(context.Background(), consumers.TopicPartition{Topic: "first"}); err != nil {
			t.Error(err)
		}
	})
	<-entered
	errs := make([]error, lanes)
	var ready, done sync.WaitGroup
	for i := range lanes {
		ready.Add(1)
		done.Go(func() {
			tp := consumers.TopicPartition{Topic: orders.topic, Partition: int32(i)}
			s := fold.Stored{State: projection.State{Exists: true, Values: []any{"x", nil, nil, nil, int64(i)}}, Version: int64(i + 1), Time: noon}
			c := fold.Commit{TopicPartition: tp, Epoch: epochs[i], From: 0, Next: 1, Changes: map[string][]fold.Change{
				"order": {{Key: fmt.Sprint("own-", i), Stored: s}, {Key: "shared", Stored: s}}}}
			ready.Done()
			errs[i] = w.Commit(context.Background(), c)
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
	for i, err := range errs {
		if i == 3 != errors.Is(err, consumers.ErrFenced) || i != 3 && err != nil {
			t.Errorf("lane %d: %v", i, err)
		}
	}
	states, err := w.Load(context.Background(), "order", []string{"own-0", "own-3", "own-7", "shared"})
	if err != nil || len(states) != 3 || states["shared"].Version != lanes {
		t.Errorf("got %+v, %v", states, err)
	}
	if commits > lanes {
		t.Errorf("%d transactions for %d batches", commits, lanes)
	}
}
