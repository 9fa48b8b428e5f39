package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Servers are the shared servers of one whole test run.
type Servers struct {
	Env     []string        // KEY=value for the test binaries
	Missing []*MissingError // parts that could not be had
	report  string          // where skipped tests say what they missed
}

// StartServers starts the shared servers named (by default those that many
// tests need: all but OpenSearch) for other processes to use. What is missing is listed and no error; a server that
// is there and does not start is one. Servers that the environment names are used
// as they are. Call Stop in the end, also after an error.
func StartServers(names ...string) (*Servers, error) {
	if len(names) == 0 {
		names = slices.DeleteFunc(AllServers(), func(name string) bool { return all[name].onDemand })
	}
	s := &Servers{}
	dir, err := workDir("run")
	if err != nil {
		return s, err
	}
	s.report = filepath.Join(dir, "missing")
	if err := os.WriteFile(s.report, nil, 0o644); err != nil {
		return s, fmt.Errorf("make the report: %w", err)
	}
	s.Env = append(s.Env, reportEnv+"="+s.report)

	var mu sync.Mutex // guards s and errs
	var errs []error
	var starting sync.WaitGroup
	for _, name := range names {
		server := all[name]
		if server == nil {
			return s, fmt.Errorf("no server is called %q", name)
		}
		starting.Go(func() {
			address, err := server.get()
			mu.Lock()
			defer mu.Unlock()
			var missing *MissingError
			switch {
			case errors.As(err, &missing):
				s.Missing = append(s.Missing, missing)
			case err != nil:
				errs = append(errs, err)
			default:
				s.Env = append(s.Env, server.env+"="+address)
			}
		})
	}
	starting.Wait()
	return s, errors.Join(errs...)
}

// AllServers returns the names of all shared servers, sorted.
func AllServers() []string { return slices.Sorted(maps.Keys(all)) }

// Stop stops the servers that StartServers started and removes their data.
func (s *Servers) Stop() { stopAll() }

// Summary writes what was not run for want of a part, and how to get it. It
// returns the number of tests that were skipped. Call it before Stop.
func (s *Servers) Summary(w io.Writer) (skipped int, err error) {
	f, err := os.Open(s.report)
	if err != nil {
		return 0, fmt.Errorf("read the report: %w", err)
	}
	defer f.Close()
	type part struct {
		install string
		tests   []string
	}
	parts := map[string]*part{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), "\t")
		install, test, _ := strings.Cut(rest, "\t")
		if parts[name] == nil {
			parts[name] = &part{install: install}
		}
		parts[name].tests = append(parts[name].tests, test)
		skipped++
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		fmt.Fprintf(w, "NOT RUN for want of %s: %d tests (%s). Install it with: %s\n",
			name, len(parts[name].tests), shortList(parts[name].tests), parts[name].install)
	}
	return skipped, lines.Err()
}

func shortList(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}
