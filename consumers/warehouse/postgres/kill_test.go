package postgres

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

const killURL = "MILLRACE_KILL_URL"

// Promise 4: crash at any point. A child writes batches until it is killed with SIGKILL; what it had acknowledged is there, what it
// had not is there whole or not at all, and the next child goes on.
func TestKilledProcessesLoseNothing(t *testing.T) {
	if url := os.Getenv(killURL); url != "" {
		writeForEver(url)
	}
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	t.Parallel()
	url := server(t)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	total := int64(0)
	for round := range 5 {
		acked := killAfter(t, url, 1+rnd.IntN(40), time.Duration(rnd.IntN(3000))*time.Microsecond)
		total = verify(t, url, max(acked, total))
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, seed)
		}
	}
}

// killAfter runs a child, kills it some time after some acknowledged batches, and returns the last position it acknowledged.
func killAfter(t *testing.T, url string, batches int, later time.Duration) int64 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestKilledProcessesLoseNothing$")
	cmd.Env = append(os.Environ(), killURL+"="+url)
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
	time.Sleep(later)      // so that it dies anywhere within a batch
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
func writeForEver(url string) {
	w, err := Open(Config{URL: url, Projections: []fold.Projection{orders}})
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

// verify claims, which waits for what the child has left at work, and compares position, bronze and silver; it returns the position.
func verify(t *testing.T, url string, acked int64) int64 {
	t.Helper()
	w := openAt(t, Config{URL: url, Projections: []fold.Projection{orders}})
	next := claim(t, w, tp0).Next
	if next < acked || next%batchEvents != 0 {
		t.Errorf("the position is %d, acknowledged was %d", next, acked)
	}
	got := one[string](t, connect(t, url), `SELECT concat_ws(' ', (SELECT count(DISTINCT "offset") FROM bronze.events), (SELECT count(*) FROM bronze.events),
		(SELECT coalesce(sum("group"), 0) FROM silver."order"), (SELECT coalesce(min("group"), 0) FROM silver."order"))`)
	if want := fmt.Sprint(next, " ", next, " ", next, " ", next/batchEvents); got != want {
		t.Errorf("distinct events, events, applied, least applied are %s; the position is %d", got, next)
	}
	return next
}
