package bleve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/sinktest"
)

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return newBackend(t) })
}

// backend is an index under test. A restart goes on with a copy of the files as they are: what a killed process leaves.
type backend struct {
	root string
	last map[int]*Sink // by generation
}

var _ sinktest.Generations = (*backend)(nil)

func newBackend(t testing.TB) *backend { return &backend{root: t.TempDir(), last: map[int]*Sink{}} }

func (b *backend) place(generation int) place {
	return place{filepath.Join(b.root, "search"), generation}
}

func (b *backend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

func (b *backend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	t.Helper()
	at := b.place(generation)
	if _, err := os.Stat(at.dir()); err == nil && b.last[generation] != nil { // not removed since
		killed := filepath.Join(b.root, "copy")
		copyTree(t, at.dir(), killed)
		if err := errors.Join(b.last[generation].Close(), os.RemoveAll(at.dir()), os.Rename(killed, at.dir())); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(Config{Path: at.path, Generation: generation, Projections: sinktest.Projections(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.last[generation] = s
	return s
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers {
	return sinktest.Offers{Snapshots: true, Generations: true, Replace: true}
}

// ReadServing implements sinktest.Generations: readers ask the process.
func (b *backend) ReadServing(testing.TB, string) (map[string]fold.Stored, bool) { return nil, false }

// TellsBehind implements sinktest.Generations.
func (b *backend) TellsBehind() bool { return false }

// Traces implements sinktest.Generations.
func (b *backend) Traces(t testing.TB, generation int) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(b.place(generation).dir(), func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			left = append(left, path)
		}
		return nil // what is gone is no trace
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func (b *backend) ServePoints() []string { return []string{"before serving", "after serving"} }

func (b *backend) RemovePoints() []string { return []string{"before the removal", "taken away"} }

func (b *backend) CrashServing(_ testing.TB, generation int, at string) {
	b.last[generation].crash = killedAt(at)
}

// copyTree copies a folder as it was at one instant: merges rewrite the files of an open index, so the copy is made again until
// nothing has changed in the meantime.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	for try := 0; ; try++ {
		before := listing(from)
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil && before == listing(from) {
			return
		}
		if try == 200 {
			t.Fatalf("copy %s: it never stands still: %v", from, err)
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
}

// listing tells when a file below dir was added, removed or written.
func listing(dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone since: the next listing differs
		}
		if fi, err := d.Info(); err == nil && !d.IsDir() {
			fmt.Fprintln(&b, path, fi.Size(), fi.ModTime().UnixNano())
		}
		return nil
	})
	return b.String()
}

// Dump finds the keys as readers do, page by page, and loads their states.
func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	var keys []string
	for {
		q := search.Query{Entity: entity, Size: search.MaxSize, From: len(keys), Sort: []string{"_key"}}
		res, err := b.last[1].Search(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range res.Hits {
			keys = append(keys, h.Key)
		}
		if len(res.Hits) < q.Size {
			break
		}
	}
	out, err := b.last[1].Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(keys) {
		t.Fatalf("%d documents are found, %d states are there", len(keys), len(out))
	}
	return out
}

func (b *backend) CrashPoints() []string { return []string{"before the batch", "after the batch"} }

func (b *backend) CrashAt(_ testing.TB, at string) {
	b.last[1].crash = killedAt(at)
}

func killedAt(at string) func(string) error {
	return func(point string) error {
		if point == at {
			return errors.New("killed " + point)
		}
		return nil
	}
}
