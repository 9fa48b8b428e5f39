package opensearch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
	"github.com/millrace/millrace/test/harness"
)

// items is a projection; the tests make its states themselves.
type items struct{ entity, digest string }

func (p items) Entity() string { return p.entity }
func (p items) Topic() string  { return "items" }
func (p items) Digest() string { return p.digest }
func (p items) Columns() []projection.Column {
	return []projection.Column{
		{Name: "name", Type: projection.Type{Kind: projection.Text}},
		{Name: "sku", Type: projection.Type{Kind: projection.Text}},
		{Name: "n", Type: projection.Type{Kind: projection.Int}},
		{Name: "amount", Type: projection.Type{Kind: projection.Decimal, Precision: 38, Scale: 18}},
		{Name: "extra", Type: projection.Type{Kind: projection.JSON}},
	}
}
func (p items) SearchFields() projection.Search { return projection.Search{Keyword: []string{"sku"}} }
func (p items) Fold(prev projection.State, _ *consumers.Event) (projection.State, error) {
	return prev, nil
}
func (p items) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

var (
	first = items{"item", "d1"}
	part0 = consumers.TopicPartition{Topic: "items", Partition: 0}
	at    = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
)

func state(version int64, sku string) fold.Stored {
	return fold.Stored{Version: version, EventID: fmt.Sprint("e", version), Time: at, State: projection.State{Exists: true, Values: []any{
		"Blue thing " + sku, sku, version, big.NewRat(version, 4), map[string]any{"a": version}}}}
}

func deleted(version int64) fold.Stored {
	return fold.Stored{Version: version, EventID: fmt.Sprint("e", version), Time: at}
}

// batch is a commit of states, made with the first epoch.
func batch(from, next int64, states ...any) fold.Commit {
	c := fold.Commit{TopicPartition: part0, Epoch: 1, From: from, Next: next, Changes: map[string][]fold.Change{}}
	for i := 0; i < len(states); i += 2 {
		c.Changes["item"] = append(c.Changes["item"], fold.Change{Key: states[i].(string), Stored: states[i+1].(fold.Stored)})
	}
	return c
}

// journal is a log that tests look into.
type journal struct {
	mu sync.Mutex // guards the following
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// rig is a sink behind a proxy before the real server.
type rig struct {
	*Sink
	t      testing.TB
	proxy  *proxy
	log    *journal
	cfg    Config
	server string
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	server := harness.OpenSearch(t)
	r := &rig{t: t, proxy: newProxy(t, server), log: &journal{}, server: server}
	r.cfg = Config{URL: r.proxy.URL, Prefix: unique(t, server), Projections: []fold.Projection{first}, Logger: r.log.logger()}
	if change != nil {
		change(&r.cfg)
	}
	r.Sink = open(t, r.cfg)
	return r
}

func (r *rig) claim() fold.Claim {
	r.t.Helper()
	c, err := r.Claim(context.Background(), part0)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) commit(c fold.Commit) {
	r.t.Helper()
	if err := r.Commit(context.Background(), c); err != nil {
		r.t.Fatal(err)
	}
}

// versions are the stored versions of keys, "-" for a state that is deleted.
func (r *rig) versions(keys ...string) string {
	r.t.Helper()
	got, err := r.Load(context.Background(), "item", keys)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, key := range keys {
		s, ok := got[key]
		switch {
		case !ok:
			out = append(out, key+":none")
		case s.Exists:
			out = append(out, fmt.Sprintf("%s:%d", key, s.Version))
		default:
			out = append(out, fmt.Sprintf("%s:-%d", key, s.Version))
		}
	}
	return strings.Join(out, " ")
}

func (r *rig) want(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// finds are the keys that a search finds, in order.
func (r *rig) finds(text string) string {
	r.t.Helper()
	refresh(r.t, r.Sink)
	res, err := r.Search(context.Background(), search.Query{Entity: "item", Text: text, Sort: []string{"_key"}, Timeout: search.MaxTimeout})
	if err != nil {
		r.t.Fatalf("%q: %v", text, err)
	}
	var out []string
	for _, h := range res.Hits {
		out = append(out, h.Key)
	}
	return strings.Join(out, " ")
}

// next is the stored position.
func (r *rig) next() int64 {
	r.t.Helper()
	all, err := r.Positions(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	if n, ok := all[part0]; ok {
		return n
	}
	return -1
}
