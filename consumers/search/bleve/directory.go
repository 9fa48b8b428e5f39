package bleve

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/mapping"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// lockWait is how long Open waits for another process to close the index.
const lockWait = "2s"

// declarationsKey is the internal value that says what built the index.
var declarationsKey = []byte("millrace/declarations")

// declarations are the digests of what an index is built by, by entity: the projection's, and that of the fields made from it.
func declarations(projections []fold.Projection, layouts map[string]*layout) map[string]string {
	out := make(map[string]string, len(projections))
	for _, p := range projections {
		out[p.Entity()] = p.Topic() + " " + p.Digest() + " " + layouts[p.Entity()].digest()
	}
	return out
}

func indexDir(path string) string { return filepath.Join(path, "index") }
func storeDir(path string) string { return filepath.Join(path, "index", "store") }

func openIndex(path string, want map[string]string) (bleve.Index, error) {
	if _, err := os.Stat(indexDir(path)); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, want); err != nil {
			return nil, fmt.Errorf("create search index %s: %w", path, err)
		}
	}
	index, err := bleve.OpenUsing(indexDir(path), map[string]any{"bolt_timeout": lockWait})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("open search index %s: %w", path, err)
	}
	err = checkDeclarations(index, want)
	if errors.Is(err, ErrDeclaration) {
		err = takeDeclarations(index, want, err)
	}
	if err != nil {
		return nil, errors.Join(consumers.AsSystemic(fmt.Errorf("%s: %w", path, err)), index.Close())
	}
	if err := removeUnfinished(path); err != nil {
		return nil, errors.Join(err, index.Close())
	}
	return index, nil
}

// create builds an empty index beside its place and moves it there when it is complete: a crash leaves nothing half made.
func create(path string, declared map[string]string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(path, "new-")
	if err != nil {
		return err
	}
	value, err := json.Marshal(declared)
	if err != nil {
		return err
	}
	index, err := bleve.NewUsing(filepath.Join(unfinished, "index"), emptyMapping(), scorch.Name, scorch.Name, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(index.SetInternal(declarationsKey, value), index.Close()); err != nil {
		return err
	}
	if err := syncTree(unfinished); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(unfinished, "index"), indexDir(path)); err != nil {
		return err
	}
	return syncDir(path)
}

// emptyMapping lets bleve index nothing by itself.
func emptyMapping() mapping.IndexMapping {
	m := bleve.NewIndexMapping()
	m.DefaultMapping = bleve.NewDocumentDisabledMapping()
	m.IndexDynamic, m.StoreDynamic, m.DocValuesDynamic = false, false, false
	return m
}

func checkDeclarations(index bleve.Index, want map[string]string) error {
	value, err := index.GetInternal(declarationsKey)
	if err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	var have map[string]string
	if err := json.Unmarshal(value, &have); err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	if diff := difference(have, want); len(diff) > 0 {
		return fmt.Errorf("%w: %s; build a new generation of the sink: millrace rebuild", ErrDeclaration, strings.Join(diff, ", "))
	}
	return nil
}

// takeDeclarations has an index that nothing was applied to yet go on by others; refused is the error about one that cannot.
func takeDeclarations(index bleve.Index, want map[string]string, refused error) error {
	known, err := readPartitions(index)
	if err != nil {
		return err
	}
	for _, p := range known {
		if p.record.Next >= 0 || len(p.record.Quarantined) > 0 {
			return refused
		}
	}
	if documents, err := index.DocCount(); err != nil || documents > 0 {
		return cmp.Or(err, refused)
	}
	value, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return index.SetInternal(declarationsKey, value)
}

// difference says in words how two sets of declarations differ, in order of entity.
func difference(have, want map[string]string) []string {
	all := maps.Clone(have)
	maps.Copy(all, want)
	var out []string
	for _, entity := range slices.Sorted(maps.Keys(all)) {
		was, old := have[entity]
		is, now := want[entity]
		switch {
		case !old:
			out = append(out, entity+" is new")
		case !now:
			out = append(out, entity+" is gone")
		case was != is:
			out = append(out, entity+" has changed")
		}
	}
	return out
}

// removeUnfinished removes what crashes in create and in remove left behind. The index is locked, or gone: nobody else is creating one here.
func removeUnfinished(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "new-") || strings.HasPrefix(e.Name(), "gone-") {
			if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
