package bleve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a segment that a merge has made superfluous
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
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

func (b *backend) CrashPoints() []string { return []string{"before the batch", "after the batch"} }

func (b *backend) CrashAt(_ testing.TB, at string) {
	b.last.crash = func(point string) error {
		if point == at {
			return errors.New("killed " + point)
		}
		return nil
	}
}
