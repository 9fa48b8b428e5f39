package opensearch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// proxy stands before a real server. A rule sees a request before it is passed on and may answer it instead.
type proxy struct {
	URL     string
	forward http.Handler

	mu   sync.Mutex // guards the following
	rule func(w http.ResponseWriter, r *http.Request, body []byte) (done bool)
	seen []string // bodies of bulk requests
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{forward: httputil.NewSingleHostReverseProxy(u)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.mu.Lock()
	rule := p.rule
	if isBulk(r) {
		p.seen = append(p.seen, string(body))
	}
	p.mu.Unlock()
	if rule != nil && rule(w, r, body) {
		return
	}
	p.pass(w, r, body)
}

func (p *proxy) pass(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	p.forward.ServeHTTP(w, r)
}

func isBulk(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/_bulk") }

// isMove says whether a request writes the position of a partition.
func isMove(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, ".positions-")
}

func (p *proxy) set(rule func(w http.ResponseWriter, r *http.Request, body []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// bulks returns the bodies of the bulk requests since it was last called.
func (p *proxy) bulks() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
}

// swallow passes a request on and keeps the answer.
func (p *proxy) swallow(w http.ResponseWriter, r *http.Request, body []byte) {
	p.pass(httptest.NewRecorder(), r, body)
	cut(w)
}

// refuse answers as the server does.
func refuse(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"type":%q,"reason":"as the test wants it"},"status":%d}`, kind, status)
}

// keys are the ids in the body of a bulk request, in order.
func keys(t testing.TB, body string) (ids []string) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
		if i%2 == 1 {
			continue
		}
		var action struct {
			Index struct {
				ID string `json:"_id"`
			} `json:"index"`
		}
		if err := json.Unmarshal([]byte(line), &action); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, action.Index.ID)
	}
	return ids
}
