package opensearch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestSink(t *testing.T) {
	stores := newStores(t, harness.OpenSearch(t))
	sinktest.Run(t, func(testing.TB) sinktest.Backend { return &backend{url: stores.url, prefix: stores.next()} })
}

// stores makes stores ahead of the suite, which needs one a check: the server takes its time to make an index.
type stores struct {
	url   string
	ready chan string // prefixes
}

func newStores(t *testing.T, url string) *stores {
	s := &stores{url: url, ready: make(chan string, 2)}
	base := unique(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	var making sync.WaitGroup
	var number atomic.Int64
	for range 2 {
		making.Go(func() {
			for ctx.Err() == nil {
				prefix := fmt.Sprint(base, "-", number.Add(1))
				// A store that could not be made is made, and the fault reported, by the check that gets it.
				if first, err := Open(suiteConfig(url, prefix)); err == nil {
					_ = first.Close()
				}
				select {
				case s.ready <- prefix:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); making.Wait() })
	return s
}

func (s *stores) next() string { return <-s.ready }

// suiteConfig cuts a batch into several requests.
func suiteConfig(url, prefix string) Config {
	return Config{URL: url, Prefix: prefix, Projections: sinktest.Projections(), BulkBytes: 4 << 10, Logger: slog.New(slog.DiscardHandler)}
}

// backend is generations of indices under test. A restart is another sink on them.
type backend struct {
	url, prefix string
	last        map[int]*Sink
	reader      *client
}

var (
	_ sinktest.Generations  = (*backend)(nil)
	_ sinktest.StatePlanter = (*backend)(nil)
)

func (b *backend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

// OpenGeneration implements sinktest.Generations. A later generation is made as a rebuild makes one.
func (b *backend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	t.Helper()
	cfg := suiteConfig(b.url, b.prefix)
	cfg.Generation, cfg.Building = generation, generation > 1
	if b.last == nil {
		b.last = map[int]*Sink{}
	}
	b.last[generation] = open(t, cfg)
	return b.last[generation]
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers {
	return sinktest.Offers{Snapshots: true, Generations: true, Replace: true}
}

// ask asks the server as somebody else does.
func (b *backend) ask(t testing.TB, method, path string, body, out any) error {
	t.Helper()
	if b.reader == nil {
		cl, err := newClient(suiteConfig(b.url, b.prefix).WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		b.reader = cl
		t.Cleanup(cl.close)
	}
	return b.reader.call(context.Background(), method, path, body, out)
}

// ReadServing implements sinktest.Generations: what a search by the readers' alias finds.
func (b *backend) ReadServing(t testing.TB, entity string) (map[string]fold.Stored, bool) {
	t.Helper()
	alias := path(b.prefix + "-" + entity)
	out := map[string]fold.Stored{}
	columns := map[string][]projection.Column{}
	for _, p := range sinktest.Projections() {
		columns[p.Entity()] = p.Columns()
	}
	err := b.ask(t, http.MethodPost, alias+"/_refresh", nil, nil)
	if has(err, http.StatusNotFound) {
		return nil, true // nothing was ever opened
	}
	if err != nil {
		t.Fatal(err)
	}
	var answer hits
	if err := b.ask(t, http.MethodPost, alias+"/_search", object{"size": 1000}, &answer); err != nil {
		t.Fatal(err)
	}
	for _, h := range answer.Hits.Hits {
		state, err := stored.Decode(columns[entity], h.Source.State)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Source.Key] = state
	}
	return out, true
}

// TellsBehind implements sinktest.Generations.
func (b *backend) TellsBehind() bool { return true }

// Traces implements sinktest.Generations.
func (b *backend) Traces(t testing.TB, generation int) (left []string) {
	t.Helper()
	var indices map[string]any
	if err := b.ask(t, http.MethodGet, "/"+b.prefix+"*?expand_wildcards=all", nil, &indices); err != nil {
		t.Fatal(err)
	}
	var templates struct {
		Templates []struct {
			Name string `json:"name"`
		} `json:"index_templates"`
	}
	if err := b.ask(t, http.MethodGet, "/_index_template/"+b.prefix+"*", nil, &templates); err != nil && !has(err, http.StatusNotFound) {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(indices))
	for _, tmpl := range templates.Templates {
		names = append(names, tmpl.Name)
	}
	for _, name := range names {
		if strings.HasSuffix(name, fmt.Sprint("-g", generation)) {
			left = append(left, name)
		}
	}
	return left
}

func (b *backend) ServePoints() []string { return []string{"before serving", "after serving"} }

func (b *backend) RemovePoints() []string { return []string{"before the removal", "without indices"} }

func (b *backend) CrashServing(_ testing.TB, generation int, at string) {
	b.last[generation].crash = killedAt(at)
}

// DoubleState implements sinktest.StatePlanter: somebody copies a document.
func (b *backend) DoubleState(t testing.TB, entity, key string) {
	t.Helper()
	index := path(b.last[1].layouts[entity].index)
	var doc struct {
		Source map[string]any `json:"_source"`
	}
	if err := b.ask(t, http.MethodGet, index+path("_doc", id(key)), nil, &doc); err != nil {
		t.Fatal(err)
	}
	if err := b.ask(t, http.MethodPost, index+"/_doc?refresh=true", doc.Source, nil); err != nil {
		t.Fatal(err)
	}
}

// Dump finds the keys as readers do, page by page, and loads their states.
func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	refresh(t, b.last[1])
	var keys []string
	for {
		q := search.Query{Entity: entity, Size: search.MaxSize, From: len(keys), Sort: []string{"_key"}, Timeout: search.MaxTimeout}
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

func (b *backend) CrashPoints() []string {
	return []string{"before the documents", "after some documents", "after the documents", "after the position"}
}

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

// unique returns a prefix of the test's own, whose indices and templates are deleted in the end.
func unique(t testing.TB, url string) string {
	t.Helper()
	prefix := harness.Unique("t")
	t.Cleanup(func() {
		cl, err := newClient(Config{URL: url}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		defer cl.close()
		for _, path := range []string{"/" + prefix + "*?expand_wildcards=all", "/_index_template/" + prefix + "*"} {
			if err := cl.call(context.Background(), http.MethodDelete, path, nil, nil); err != nil && !has(err, http.StatusNotFound) {
				t.Logf("clean up: %v", err)
			}
		}
	})
	return prefix
}

// open opens a sink as a service does: a server that is slow is asked again. A server of tests shares its disk with much else.
func open(t testing.TB, cfg Config) *Sink {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 2 * time.Minute
	}
	s, err := Open(cfg)
	for tries := 0; tries < 10 && err != nil && consumers.Classify(err) != consumers.Systemic; tries++ {
		s, err = Open(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// refresh makes what was written visible to searches.
func refresh(t testing.TB, s *Sink) {
	t.Helper()
	for _, l := range s.layouts {
		if err := s.client.call(context.Background(), http.MethodPost, path(l.target)+"/_refresh", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}
