package bleve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/millrace/millrace/consumers/fold"
)

// place is where one generation of an index is.
type place struct {
	path       string // Config.Path
	generation int
}

// dir is the directory of the generation: search, then search.g2.
func (p place) dir() string {
	if p.generation == 1 {
		return p.path
	}
	return filepath.Clean(p.path) + ".g" + strconv.Itoa(p.generation)
}

// pointer is the file that names the generation that serves. It is not there before the first Serve: generation 1 serves then.
func (p place) pointer() string { return filepath.Clean(p.path) + ".serving" }

// serving reads the pointer.
func (p place) serving() (int, error) {
	text, err := os.ReadFile(p.pointer())
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s does not hold the number of a generation", p.pointer())
	}
	return n, nil
}

// serve moves the pointer: a crash leaves the old one or the new one.
func (p place) serve() error {
	next := p.pointer() + ".next"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, p.generation)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, p.pointer()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(p.pointer()))
}

// remove removes the generation's index. It is taken away from its place in one step: a crash leaves what the next Open of the generation clears up, and
// never half an index.
func (p place) remove(crash func(point string) error) error {
	dir := p.dir()
	if _, err := os.Stat(indexDir(dir)); err == nil {
		gone, err := os.MkdirTemp(dir, "gone-")
		if err != nil {
			return err
		}
		if err := os.Rename(indexDir(dir), filepath.Join(gone, "index")); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := crash("taken away"); err != nil {
		return err
	}
	if err := removeUnfinished(dir); err != nil {
		return err
	}
	// What others keep in the directory stays, and the directory with it.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// Serve implements fold.Generational. Readers ask the process, which asks the sink that it takes for serving; what is written down here is which generation
// Remove must not remove.
func (s *Sink) Serve(ctx context.Context) error {
	_, done, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = s.crashAt("before serving")
	if err == nil {
		err = s.place.serve()
	}
	if err == nil {
		err = s.crashAt("after serving")
	}
	if err != nil {
		return fmt.Errorf("write down that generation %d of search index %s serves: %w", s.place.generation, s.place.path, err)
	}
	return nil
}

// Remove implements fold.Generational. It closes the index.
func (s *Sink) Remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	serving, err := s.place.serving()
	if err == nil && serving == s.place.generation {
		err = fold.ErrServing
	}
	if err == nil {
		err = s.crashAt("before the removal")
	}
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		err = s.place.remove(s.crashAt)
	}
	if err != nil {
		return fmt.Errorf("remove generation %d of search index %s: %w", s.place.generation, s.place.path, err)
	}
	return nil
}

// ServingGeneration is the generation of an index that has served last: 1 before any other has. It makes nothing.
func ServingGeneration(path string) (int, error) {
	n, err := place{path, 1}.serving()
	if err != nil {
		return 0, fmt.Errorf("read which generation of search index %s serves: %w", path, err)
	}
	return n, nil
}

// RemoveGeneration removes a generation that nobody can open any more, for its declarations are gone; see Sink.Remove.
func RemoveGeneration(path string, generation int) error {
	at := place{path, generation}
	serving, err := at.serving()
	if err == nil && serving == generation {
		err = fold.ErrServing
	}
	if err == nil {
		if _, err = os.Stat(at.dir()); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err == nil {
		err = at.remove(func(string) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("remove generation %d of search index %s: %w", generation, path, err)
	}
	return nil
}
