package opensearch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
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

// backend is a generation of indices under test. A restart is another sink on them.
type backend struct {
	url, prefix string
	last        *Sink
}

func (b *backend) Open(t testing.TB) fold.Sink {
	t.Helper()
	b.last = open(t, suiteConfig(b.url, b.prefix))
	return b.last
}

// Dump finds the keys as readers do, page by page, and loads their states.
func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	refresh(t, b.last)
	var keys []string
	for {
		q := search.Query{Entity: entity, Size: search.MaxSize, From: len(keys), Sort: []string{"_key"}, Timeout: search.MaxTimeout}
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

func (b *backend) CrashPoints() []string {
	return []string{"before the documents", "after some documents", "after the documents", "after the position"}
}

func (b *backend) CrashAt(_ testing.TB, at string) {
	b.last.crash = func(point string) error {
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
