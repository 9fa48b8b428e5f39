package bleve

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

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
)

// crashDir tells the child process of TestPromise4_AKilledProcess… where the index is.
const crashDir = "MILLRACE_TEST_BLEVE_DIR"

const perBatch = 25

// batchOf is the n-th batch of the child: new documents, and one that every batch changes.
func batchOf(n int64, epoch int64) fold.Commit {
	cs := []fold.Change{{Key: "last", Stored: made(n+1, "changed by all", "L", n+1)}}
	for i := range perBatch {
		cs = append(cs, fold.Change{Key: fmt.Sprintf("b%d-%d", n, i), Stored: made(n+1, "batch "+strconv.FormatInt(n, 10), "S", n+1)})
	}
	return fold.Commit{TopicPartition: things, Epoch: epoch, From: n * 10, Next: n*10 + 10, Changes: map[string][]fold.Change{"widget": cs}}
}

// TestCommitUntilKilled is the child process: it commits batches and tells of each that Commit acknowledged.
func TestCommitUntilKilled(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("is the child process of TestPromise4_AKilledProcessLosesNothingItAcknowledged")
	}
	s := open(t, dir)
	c := claim(t, s, things)
	for n := max(c.Next, 0) / 10; ; n++ {
		if err := s.Commit(context.Background(), batchOf(n, c.Epoch)); err != nil {
			t.Fatal(err)
		}
		fmt.Println(n)
	}
}

// runUntilKilled runs the child, kills it when it has acknowledged some batches, and returns the last one acknowledged.
func runUntilKilled(t *testing.T, dir string, batches int, delay time.Duration) (acknowledged int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCommitUntilKilled$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged = -1
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); {
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		acknowledged = n
		if seen++; seen == batches {
			time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }) // somewhere in the batches after
		}
	}
	if err := cmd.Wait(); err == nil || acknowledged < 0 {
		t.Fatalf("the child was not killed in mid-run: %v", err)
	}
	return acknowledged
}

func TestPromise4_AKilledProcessLosesNothingItAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	for round := range 5 {
		acknowledged := runUntilKilled(t, dir, 1+rnd.IntN(12), time.Duration(rnd.IntN(9000))*time.Microsecond)
		s := open(t, dir)
		c := claim(t, s, things)
		if c.Next%10 != 0 || c.Next/10 < acknowledged+1 || c.Next/10 > acknowledged+2 {
			t.Fatalf("seed %d round %d: batch %d was acknowledged, the position is %d", seed, round, acknowledged, c.Next)
		}
		checkBatches(t, s, c.Next/10)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkBatches holds that the index has the first n batches and nothing else.
func checkBatches(t *testing.T, s *Sink, n int64) {
	t.Helper()
	ctx := context.Background()
	res, err := s.Search(ctx, search.Query{Entity: "widget", Size: -1})
	if err != nil || res.Total != uint64(n*perBatch+1) {
		t.Fatalf("after %d batches the index has %+v, %v", n, res, err)
	}
	for b := range n {
		keys := []string{"last"}
		for _, c := range batchOf(b, 0).Changes["widget"][1:] {
			keys = append(keys, c.Key)
		}
		got, err := s.Load(ctx, "widget", keys)
		if err != nil || len(got) != perBatch+1 || got["last"].Version != n || got[keys[1]].Version != b+1 {
			t.Fatalf("batch %d of %d: %d states, the last of version %d, %v", b, n, len(got), got["last"].Version, err)
		}
	}
}

func TestACrashWhileCreatingLeavesNothingHalfMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/new-123/index/store", 0o755); err != nil {
		t.Fatal(err)
	}
	_ = open(t, dir)
	if _, err := os.Stat(dir + "/new-123"); !os.IsNotExist(err) {
		t.Errorf("what the crash left is still there: %v", err)
	}
}
