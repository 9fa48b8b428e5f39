//go:build cgo

package duckdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// openBuild opens a generation; a process that was killed may be about to be gone.
func openBuild(t testing.TB, path string, generation int) *Warehouse {
	t.Helper()
	cfg := Config{Path: path, Generation: generation, Projections: []fold.Projection{orders}, Threads: 1}
	w, err := Open(cfg)
	for deadline := time.Now().Add(time.Minute); errors.Is(err, ErrOpen) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		w, err = Open(cfg)
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

func wantFiles(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".wal" {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder has %v, want %v", got, want)
	}
}

// A generation is a file with everything in it: queries and gold's models as well.
func TestAGenerationIsAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "wh.duckdb")
	first, second := openBuild(t, path, 1), openBuild(t, path, 2)
	wantFiles(t, dir, "wh.duckdb", "wh.g2.duckdb")
	c, err := second.Claim(context.Background(), tp0)
	if err == nil {
		err = second.Commit(context.Background(), counted(c.Epoch, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := second.Gold()
	if err != nil {
		t.Fatal(err)
	}
	err = g.Transaction(context.Background(), func(tx gold.Tx) error {
		if err := tx.Exec(context.Background(), "CREATE TABLE "+g.Base("n")+" AS SELECT count(*) AS n FROM "+g.Input("silver.order")); err != nil {
			return err
		}
		return tx.Publish(context.Background(), "n", "n", []gold.Column{{Name: "n"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	const query = `SELECT (SELECT n FROM gold.n), (SELECT count(*) FROM "order")`
	res, err := second.Query(context.Background(), query, warehouse.Limits{})
	if err != nil || fmt.Sprint(res.Rows) != fmt.Sprintf("[[%d %d]]", batchEvents, batchEvents) {
		t.Errorf("the second generation answers %+v, %v", res, err)
	}
	if _, err := first.Query(context.Background(), query, warehouse.Limits{}); !errors.Is(err, warehouse.ErrInvalid) {
		t.Errorf("the first generation has gold of the second: %v", err)
	}
}

const removeAt = "MILLRACE_REMOVE_AT"

// Promise 8: a removal that is killed goes on, and what serves stays.
func TestPromise8AKilledRemovalGoesOn(t *testing.T) {
	if point := os.Getenv(removeAt); point != "" {
		removeUntil(os.Getenv(killDir), point)
	}
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	for _, point := range []string{"remove.wal", "remove.tmp", "remove"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "wh.duckdb")
			first := openBuild(t, path, 1)
			killAt(t, dir, point)
			if err := openBuild(t, path, 2).Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, "wh.duckdb")
			if _, err := first.Claim(context.Background(), tp0); err != nil {
				t.Errorf("the first generation: %v", err)
			}
		})
	}
}

// killAt runs a child that removes the second generation, and kills it where it stops.
func killAt(t *testing.T, dir, point string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestPromise8AKilledRemovalGoesOn$")
	cmd.Env = append(os.Environ(), killDir+"="+dir, removeAt+"="+point)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != point {
		t.Errorf("the child says %q", lines.Text())
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

// removeUntil is the child: it fills a second generation, removes it, and stops at the point for ever.
func removeUntil(dir, point string) {
	w, err := Open(Config{Path: filepath.Join(dir, "wh.duckdb"), Generation: 2, Projections: []fold.Projection{orders}, Threads: 1})
	must(err)
	c, err := w.Claim(context.Background(), tp0)
	must(err)
	must(w.Commit(context.Background(), counted(c.Epoch, 0)))
	w.hook = func(at string) error {
		if at == point {
			fmt.Println(point)
			select {}
		}
		return nil
	}
	must(w.Remove(context.Background()))
	must(errors.New("the removal went by its point"))
}
