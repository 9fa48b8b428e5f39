package duckdb

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

var (
	_ fold.Sink         = (*Warehouse)(nil)
	_ fold.EventReader  = (*Warehouse)(nil)
	_ fold.Snapshotter  = (*Warehouse)(nil)
	_ fold.EventKeeper  = (*Warehouse)(nil)
	_ fold.Generational = (*Warehouse)(nil)
	_ warehouse.Querier = (*Warehouse)(nil)
)

// Config says where the warehouse is and what it holds.
type Config struct {
	// Path is the database file; its folder is made if it is not there. Required. DuckDB keeps PATH.wal and PATH.tmp beside it.
	Path string
	// Generation is the number of the build, from 1. Each has a file of its own: PATH is that of the first, and of the second PATH with .g2 before its
	// ending (warehouse.g2.duckdb). Default 1.
	Generation int
	// Bronze says what is kept of events. Default warehouse.BronzeJSON.
	Bronze warehouse.Bronze
	// Projections are the entities with a silver table. Events of topics without one are kept in bronze.
	Projections []fold.Projection
	// MemoryBytes is what DuckDB may use for its buffers, queries included. Default 256 MiB.
	MemoryBytes int64
	// TempBytes is how much DuckDB may spill to disk. Default 4 GiB.
	TempBytes int64
	// Threads is the number of threads DuckDB uses. Default: one a CPU.
	Threads int
	// GroupRows is the number of rows from which a transaction takes no further batch. Default 50,000.
	GroupRows int
	// MaxQueries is the number of queries that run at a time. Default 4.
	MaxQueries int
	// Logger gets start, stop and what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with every unset field filled in.
func (c Config) WithDefaults() Config {
	if c.Generation == 0 {
		c.Generation = 1
	}
	if c.Bronze == "" {
		c.Bronze = warehouse.BronzeJSON
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 256 << 20
	}
	if c.TempBytes == 0 {
		c.TempBytes = 4 << 30
	}
	if c.Threads == 0 {
		c.Threads = runtime.NumCPU()
	}
	if c.GroupRows == 0 {
		c.GroupRows = 50_000
	}
	if c.MaxQueries == 0 {
		c.MaxQueries = 4
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// file is where the generation is.
func (c Config) file() string {
	if c.Generation <= 1 {
		return c.Path
	}
	ext := filepath.Ext(c.Path)
	return fmt.Sprintf("%s.g%d%s", strings.TrimSuffix(c.Path, ext), c.Generation, ext)
}

// reservedNames are schemas and catalogs: DuckDB names the catalog after the file, and could not tell the two apart.
var reservedNames = []string{"bronze", "silver", "silver_base", "millrace", "main", "temp", "system", "information_schema", "pg_catalog"}

func (c Config) validate() error {
	if c.Path == "" {
		return errors.New("duckdb: Path is missing")
	}
	if strings.ContainsAny(c.Path, "?%#") || strings.Contains(c.Path, "://") || strings.HasPrefix(c.Path, ":") {
		return fmt.Errorf("duckdb: Path %q must be the name of a file without ?, %%, # and ://", c.Path)
	}
	base := filepath.Base(c.Path)
	if name := strings.TrimSuffix(base, filepath.Ext(base)); slices.Contains(reservedNames, strings.ToLower(name)) {
		return fmt.Errorf("duckdb: Path %q: a file cannot be called %s, which is a schema in it", c.Path, name)
	}
	if c.Generation < 0 {
		return fmt.Errorf("duckdb: Generation is %d; they are numbered from 1", c.Generation)
	}
	if err := warehouse.CheckBronze(c.Bronze); err != nil {
		return fmt.Errorf("duckdb: Bronze: %w", err)
	}
	if c.MemoryBytes < 64<<20 {
		return fmt.Errorf("duckdb: MemoryBytes is %d, below 64 MiB", c.MemoryBytes)
	}
	if c.TempBytes < 0 || c.Threads < 0 || c.GroupRows < 0 || c.MaxQueries < 0 {
		return errors.New("duckdb: TempBytes, Threads, GroupRows and MaxQueries cannot be negative")
	}
	seen := map[string]bool{}
	for _, p := range c.Projections {
		if seen[p.Entity()] {
			return fmt.Errorf("duckdb: two projections of entity %q", p.Entity())
		}
		seen[p.Entity()] = true
	}
	return nil
}

// ServingGeneration is the generation of a warehouse of which there is a file; 0 if there is none. Of several, no file tells which one serves, and it is ErrSeveral with their names.
func ServingGeneration(path string) (int, error) {
	ext := filepath.Ext(path)
	beside, err := filepath.Glob(globbed.Replace(strings.TrimSuffix(path, ext)) + ".g*" + globbed.Replace(ext))
	if err != nil {
		return 0, err
	}
	serving, found := 0, []string{}
	if _, err := os.Stat(path); err == nil {
		serving, found = 1, append(found, path)
	}
	for _, file := range beside {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(file, strings.TrimSuffix(path, ext)+".g"), ext))
		if err == nil && n > 1 {
			serving, found = n, append(found, file)
		}
	}
	if len(found) > 1 {
		return 0, fmt.Errorf("%w: %s", ErrSeveral, strings.Join(found, ", "))
	}
	return serving, nil
}

// globbed has the signs of a pattern mean themselves.
var globbed = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// ErrSeveral says that there are files of several generations.
var ErrSeveral = errors.New("there are files of several generations")

// removed are the files of a warehouse in the order in which they go, by their ends. The database goes last: while it is there, whoever opens it finds it in order and can go on removing; a log
// without its database would be taken for that of the next one.
var removed = []string{".wal", ".tmp", ""}

// RemoveGeneration removes the files of a generation that nobody can open any more, for its declarations are gone. Which one serves is the caller's care.
func RemoveGeneration(path string, generation int) error {
	file := Config{Path: path, Generation: generation}.file()
	for _, suffix := range removed {
		if err := os.RemoveAll(file + suffix); err != nil {
			return consumers.AsSystemic(fmt.Errorf("remove warehouse %s: %w", file, err))
		}
	}
	return nil
}
