package purge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
)

// cdn notes what it is asked to forget.
type cdn struct {
	*httptest.Server
	mu       sync.Mutex // guards the following
	requests [][]string
	answers  []int // of the next requests; 200 when there is none
}

func newCDN(t *testing.T) *cdn {
	c := &cdn{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	code := http.StatusOK
	if len(c.answers) > 0 {
		code, c.answers = c.answers[0], c.answers[1:]
	}
	if code == http.StatusOK {
		keys := strings.Fields(r.Header.Get("Surrogate-Key"))
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			var list map[string][]string
			if err := json.Unmarshal(body, &list); err != nil {
				code = http.StatusBadRequest
			}
			keys = append(list["surrogate_keys"], list["tags"]...)
		}
		c.requests = append(c.requests, keys)
	}
	w.Header().Set("Retry-After", "3")
	w.WriteHeader(code)
}

func (c *cdn) keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Concat(c.requests...)
}

func numbered(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("product:", i)
	}
	return keys
}

func TestEveryKeyIsAskedForInBatches(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {BatchKeys: 7}, {Shape: JSON}, {Shape: JSON, Field: "tags", BatchKeys: 30}} {
		c := newCDN(t)
		cfg.URL = c.URL + "/service/s1/purge"
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := p.Purge(t.Context(), numbered(600)); err != nil || done != 600 || !slices.Equal(c.keys(), numbered(600)) {
			t.Errorf("%+v: %d, %v; %d keys", cfg, done, err, len(c.keys()))
		}
		most := max(cfg.BatchKeys, 7)
		if cfg.BatchKeys == 0 {
			most = 256
		}
		for _, r := range c.requests {
			if len(r) > most {
				t.Errorf("%+v: a request of %d keys", cfg, len(r))
			}
		}
	}
}

// A request that is not taken is the place to go on from; nothing is given up.
func TestWhatIsNotTakenIsToldFrom(t *testing.T) {
	t.Parallel()
	c := newCDN(t)
	p, err := New(Config{URL: c.URL, BatchKeys: 10, Headers: map[string]string{"Fastly-Key": "s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	keys := numbered(25)
	c.answers = []int{200, 429}
	done, err := p.Purge(t.Context(), keys)
	if done != 10 || consumers.Classify(err) != consumers.Transient || consumers.Wait(err) != 3*time.Second {
		t.Fatalf("%d, %v", done, err)
	}
	if done, err = p.Purge(t.Context(), keys[done:]); err != nil || done != 15 || !slices.Equal(c.keys(), keys) {
		t.Errorf("%d, %v; %q", done, err, c.keys())
	}
	for _, code := range []int{400, 401, 403, 404, 410, 301} {
		c.answers = []int{code}
		if _, err := p.Purge(t.Context(), keys); consumers.Classify(err) != consumers.Systemic || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// What a header cannot hold as one key was not one key where the answer was tagged.
func TestKeysInAHeader(t *testing.T) {
	t.Parallel()
	c := newCDN(t)
	p, err := New(Config{URL: c.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Purge(t.Context(), []string{"customer:Ann Lee", "a\r\nHost: evil", "\x00", "ü"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.keys(), "|"); got != "customer:Ann|Lee|a|Host:|evil|ü" {
		t.Errorf("%q", got)
	}
	long := []string{strings.Repeat("x", 5000), strings.Repeat("y", 5000), "z"}
	if _, err := p.Purge(t.Context(), long); err != nil || len(c.requests) != 3 {
		t.Errorf("%d requests, %v", len(c.requests), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {URL: "https://u:s3cret@h"}, {URL: "https://h", Shape: "xml"}, {URL: "https://h", Field: "tags"},
		{URL: "https://h", BatchKeys: -1}, {URL: "https://h", Timeout: -1}, {URL: "https://h", Headers: map[string]string{"a b": "s3cret"}}} {
		if err := cfg.Check(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// A key that no header holds tags nothing. Asking for it would stop the sink, and anybody who can name an entity could do that.
func TestAKeyThatNoHeaderHoldsStopsNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("Surrogate-Key")) > maxHeader {
			w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Header.Get("Surrogate-Key"))
	}))
	defer server.Close()
	p, err := New(Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	keys := []string{"a", strings.Repeat("x", maxHeader+1), "b"}
	done, err := p.Purge(t.Context(), keys)
	mu.Lock()
	defer mu.Unlock()
	if err != nil || done != len(keys) || strings.Join(asked, " ") != "a b" {
		t.Errorf("%d done, asked for %d, %v", done, len(asked), err)
	}
}
