package bleve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/sinktest"
)

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{dir: t.TempDir()} })
}

// backend is an index under test. A restart goes on with a copy of the files as they are: what a killed process leaves.
type backend struct {
	dir  string
	last *Sink
}

func (b *backend) Open(t testing.TB) fold.Sink {
	t.Helper()
	if b.last != nil {
		next := t.TempDir()
		copyTree(t, b.dir, next)
		b.dir = next
	}
	b.last = open(t, b.dir, sinktest.Projections()...)
	return b.last
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
		res, err := b.last.Search(context.Background(), q)
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
	out, err := b.last.Load(context.Background(), entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != len(keys) {
		t.Fatalf("%d documents are found, %d states are there", len(keys), len(out))
	}
	return out
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers { return sinktest.Offers{} }

func (b *backend) CrashPoints() []string { return []string{"before the batch", "after the batch"} }

func (b *backend) CrashAt(_ testing.TB, at string) {
	b.last.crash = func(point string) error {
		if point == at {
			return errors.New("killed " + point)
		}
		return nil
	}
}
