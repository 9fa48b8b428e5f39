package demo

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	shopschemas "github.com/millrace/millrace/schemas/shop"
)

// topics of the example domain, without their prefix.
var topicNames = []string{"orders", "customers", "products"}

// site is the folder of the run: what a user would have written by hand.
type site struct {
	dir    string
	config string
	// relayHTTP and sinksHTTP are where the two processes serve.
	relayHTTP, sinksHTTP string
}

// write puts millrace.yaml, the schemas and the projections into the folder.
func (s *site) write(w *world) error {
	var err error
	if s.relayHTTP, err = freeAddress(); err != nil {
		return err
	}
	if s.sinksHTTP, err = freeAddress(); err != nil {
		return err
	}
	if err := s.copyDeclarations(w); err != nil {
		return fmt.Errorf("write the demo's schemas and projections: %w", err)
	}
	s.config = filepath.Join(s.dir, "millrace.yaml")
	return os.WriteFile(s.config, []byte(s.text(w)), 0o600) // connection strings can hold secrets
}

// copyDeclarations copies schemas and projections; on servers that others use too, topics get the run's name.
func (s *site) copyDeclarations(w *world) error {
	return fs.WalkDir(shopschemas.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(shopschemas.FS, path)
		if err != nil {
			return err
		}
		text := string(raw)
		for _, t := range topicNames {
			text = strings.ReplaceAll(text, `"shop.`+t+`"`, `"`+w.topicPrefix()+t+`"`)
			text = strings.ReplaceAll(text, "topic: shop."+t, "topic: "+w.topicPrefix()+t)
		}
		to := filepath.Join(s.dir, path)
		if filepath.Ext(path) == ".avsc" {
			to = filepath.Join(s.dir, "schemas", path)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(text), 0o644)
	})
}

// text is the configuration, as a user would write it.
func (s *site) text(w *world) string {
	return fmt.Sprintf(`# Written by "millrace demo". This is all that Millrace needs to know.
kafka: {brokers: [%s]}
registry: {url: %q}
schemas: [schemas]

outboxes:
  %s:
    postgres: %q
    topics: {%s}

projections: [projections/*.yaml]

sinks:
  %s: {kind: duckdb, path: data/warehouse.duckdb, topics: [%s]}
  %s: {kind: bleve, path: data/search}
  %s: {kind: redis, url: %q, prefix: %q}

http: {listen: %q}
`, quoted(w.brokers), w.registry, w.outbox(), w.postgres,
		strings.Join(w.topics(), ": {partitions: 6}, ")+": {partitions: 6}", w.sinkName("warehouse"), strings.Join(w.topics(), ", "),
		w.sinkName("search"), w.sinkName("cache"), w.redis, w.cachePrefix(), s.sinksHTTP)
}

// topics are the events topics of the run.
func (w *world) topics() []string {
	var out []string
	for _, t := range topicNames {
		out = append(out, w.topicPrefix()+t)
	}
	return out
}

// cachePrefix stands before every key of the cache.
func (w *world) cachePrefix() string { return w.outbox() + ":" }

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
