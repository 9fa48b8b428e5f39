//go:build cgo

package duckdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

const killDir = "MILLRACE_KILL_DIR"

// Promise 4: crash at any point. A child writes batches until it is killed with SIGKILL; what it had acknowledged is there, what it
// had not is there whole or not at all, and the next child goes on.
func TestKilledProcessesLoseNothing(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		writeForEver(filepath.Join(dir, "wh.duckdb"))
	}
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	dir := t.TempDir()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	total := int64(0)
	for round := range 5 {
		acked := killAfter(t, dir, 1+rnd.IntN(40))
		total = verify(t, filepath.Join(dir, "wh.duckdb"), max(acked, total))
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, seed)
		}
	}
}

// killAfter runs a child, kills it after some acknowledged batches, and returns the last position it acknowledged.
func killAfter(t *testing.T, dir string, batches int) int64 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestKilledProcessesLoseNothing$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked, lines := int64(0), bufio.NewScanner(out)
	for n := 0; n < batches && lines.Scan(); n++ {
		if acked, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
	}
	other, err := Open(Config{Path: filepath.Join(dir, "wh.duckdb")})
	if err == nil {
		_ = other.Close()
	}
	if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "in another process") || consumers.Classify(err) != consumers.Transient {
		t.Errorf("got %v, class %d; want %v, which may pass", err, consumers.Classify(err), ErrOpen)
	}
	_ = cmd.Process.Kill() // SIGKILL; whatever it is doing now
	for lines.Scan() {     // acknowledged before the signal arrived
		if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
			acked = n
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acked
}

const batchEvents = 50

// writeForEver is the child: every batch has an event for each of 50 keys; a state is the count of its events.
func writeForEver(path string) {
	w, err := Open(Config{Path: path, Projections: []fold.Projection{orders}, Threads: 1})
	must(err)
	c, err := w.Claim(context.Background(), tp0)
	must(err)
	for next := max(c.Next, 0); ; next += batchEvents {
		must(w.Commit(context.Background(), counted(c.Epoch, next)))
		fmt.Println(next + batchEvents)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func counted(epoch, from int64) fold.Commit {
	c := fold.Commit{TopicPartition: tp0, Epoch: epoch, From: from, Next: from + batchEvents, Changes: map[string][]fold.Change{}}
	for i := range int64(batchEvents) {
		key, seq := fmt.Sprintf("k%02d", i), from+i+1
		c.Events = append(c.Events, consumers.Event{TopicPartition: tp0, Offset: from + i, Key: key, Seq: seq, Time: noon}.WithFields(map[string]any{}))
		s := projection.State{Exists: true, Values: []any{"x", nil, nil, nil, from/batchEvents + 1}}
		c.Changes["order"] = append(c.Changes["order"], fold.Change{Key: key, Stored: fold.Stored{State: s, Version: seq, Time: noon}})
	}
	return c
}

// verify opens what the child left and compares position, bronze and silver; it returns the position.
func verify(t *testing.T, path string, acked int64) int64 {
	t.Helper()
	w, err := Open(Config{Path: path, Projections: []fold.Projection{orders}, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	all, err := w.Positions(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	next := all[tp0]
	if next < acked || next%batchEvents != 0 {
		t.Errorf("the position is %d, acknowledged was %d", next, acked)
	}
	const check = `SELECT (SELECT count(DISTINCT "offset") FROM bronze.events), (SELECT count(*) FROM bronze.events),
		(SELECT coalesce(sum("group"), 0) FROM silver.order), (SELECT coalesce(min("group"), 0) FROM silver.order)`
	res, err := w.Query(context.Background(), check, warehouse.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprint(next), fmt.Sprint(next), fmt.Sprint(next), fmt.Sprint(next / batchEvents)}
	for i, v := range res.Rows[0] {
		if fmt.Sprint(v) != want[i] {
			t.Errorf("distinct events, events, applied, least applied are %v; the position is %d", res.Rows[0], next)
			break
		}
	}
	return next
}
