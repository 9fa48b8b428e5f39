package projection

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/schemas"
)

// Parse reads one declaration. Name is the file's, for messages. What the author can put right is an *Error.
func Parse(name string, text []byte, catalogue *schemas.Catalogue) (*Projection, error) {
	d, err := readDeclaration(name, text)
	if err != nil {
		return nil, err
	}
	p, err := compile(d, catalogue)
	if err != nil {
		return nil, err
	}
	p.text = string(text)
	return p, nil
}

// Load reads the declarations that the patterns name, in the form of filepath.Match, relative to the working directory: one a
// file, every entity once. A pattern that matches no file is an error. They come sorted by entity.
func Load(catalogue *schemas.Catalogue, patterns ...string) ([]*Projection, error) {
	return load(catalogue, patterns, filepath.Glob, os.Open)
}

// LoadFS is Load on a file system; the patterns are those of path.Match.
func LoadFS(fsys fs.FS, catalogue *schemas.Catalogue, patterns ...string) ([]*Projection, error) {
	glob := func(pattern string) ([]string, error) { return fs.Glob(fsys, path.Clean(pattern)) }
	return load(catalogue, patterns, glob, fsys.Open)
}

func load[F fs.File](catalogue *schemas.Catalogue, patterns []string, glob func(string) ([]string, error), open func(string) (F, error)) ([]*Projection, error) {
	var files []string
	for _, pattern := range patterns {
		found, err := glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("projections %s: %w", pattern, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("projections %s: %w", pattern, fs.ErrNotExist)
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	byEntity := map[string]*Projection{}
	for _, file := range slices.Compact(files) {
		text, err := readFile(file, open)
		if err != nil {
			return nil, fmt.Errorf("read projection: %w", err)
		}
		p, err := Parse(file, text, catalogue)
		if err != nil {
			return nil, err
		}
		if other, ok := byEntity[p.entity]; ok {
			return nil, &Error{File: file, Reason: fmt.Sprintf("entity %s is declared in %s already", p.entity, other.file)}
		}
		byEntity[p.entity] = p
	}
	out := make([]*Projection, 0, len(byEntity))
	for _, entity := range sortedNames(byEntity) {
		out = append(out, byEntity[entity])
	}
	return out, nil
}

// readFile reads no more than a declaration can have, so that a pattern that catches a huge file by mistake fails at once.
func readFile[F fs.File](name string, open func(string) (F, error)) (text []byte, err error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err = readAtMost(f, maxFileBytes+1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

func readAtMost(r io.Reader, n int64) ([]byte, error) { return io.ReadAll(io.LimitReader(r, n)) }
