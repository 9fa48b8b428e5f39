package schemas

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Extension is how the names of schema files end.
const Extension = ".avsc"

// LoadDir reads every .avsc file below dir, as LoadFS does. Schemas and errors name files with dir in front.
func LoadDir(dir string) (*Catalogue, error) {
	return load(os.DirFS(dir), func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) })
}

// LoadFS reads every .avsc file of fsys, in all its folders. A file defines one named type: a record, or an enum or
// fixed that records share. Types refer to each other by name, in any order and across files; none may contain itself.
// The catalogue holds the records. The error joins one *Error for each file that has a fault.
func LoadFS(fsys fs.FS) (*Catalogue, error) {
	return load(fsys, func(name string) string { return name })
}

type file struct {
	src  *source
	root *node
}

func load(fsys fs.FS, display func(string) string) (*Catalogue, error) {
	files, err := readAll(fsys, display)
	if err != nil {
		return nil, err
	}
	defs := definitions{}
	var faults []error
	for _, f := range files {
		faults = append(faults, defs.collect(f.src, f.root, ""))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	var list []*Schema
	for _, f := range files {
		if kind := f.root.member("type"); kind == "enum" || kind == "fixed" {
			continue
		}
		s, err := build(f.src, f.root, defs, true)
		list, faults = append(list, s), append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return NewCatalogue(list...)
}

// readAll parses every schema file, sorted by name.
func readAll(fsys fs.FS, display func(string) string) ([]file, error) {
	var names []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(name) == Extension {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list schema files in %s: %w", display("."), err)
	}
	if len(names) == 0 {
		return nil, &Error{File: display("."), Reason: "holds no " + Extension + " file"}
	}
	slices.Sort(names)
	var files []file
	var faults []error
	for _, name := range names {
		f, err := read(fsys, name, display(name))
		files, faults = append(files, f), append(faults, err)
	}
	return files, errors.Join(faults...)
}

func read(fsys fs.FS, name, shown string) (file, error) {
	text, err := readLimited(fsys, name)
	if err != nil {
		return file{}, &Error{File: shown, Reason: err.Error()}
	}
	src := &source{file: shown, text: text}
	root, err := src.parse()
	if err != nil {
		return file{}, err
	}
	if kind := root.member("type"); !slices.Contains(namedKinds, kind) || kind == "error" {
		return file{}, src.at(root, "", "", "a schema file defines one named type: a record, an enum or a fixed")
	}
	return file{src: src, root: root}, nil
}

func readLimited(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxTextBytes+1))
}
