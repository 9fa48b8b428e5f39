package call

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
)

func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(r.Header.Get("Give"), &code)
		w.Header().Set("Retry-After", r.Header.Get("Wait"))
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(code)
		fmt.Fprintf(w, "you sent\n%s", r.Header.Get("Authorization"))
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL + "/hook/t0ken", Headers: map[string]string{"Authorization": "Bearer s3cret"}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	for _, want := range []struct {
		code  int
		after string
		class consumers.Class
		wait  time.Duration
	}{
		{code: 200}, {code: 204}, {code: 299},
		{301, "", consumers.Systemic, 0}, {307, "", consumers.Systemic, 0}, {308, "5", consumers.Systemic, 0},
		{401, "", consumers.Systemic, 0}, {403, "", consumers.Systemic, 0},
		{400, "", consumers.Poison, 0}, {404, "", consumers.Poison, 0}, {410, "", consumers.Poison, 0}, {413, "7", consumers.Poison, 0}, {407, "", consumers.Systemic, 0}, {422, "", consumers.Poison, 0},
		{408, "", consumers.Transient, 0}, {429, "7", consumers.Transient, 7 * time.Second}, {500, "", consumers.Transient, 0}, {502, "-3", consumers.Transient, 0},
		{503, "Fri, 02 Jan 2026 03:05:05 GMT", consumers.Transient, time.Minute}, {503, "99999999999", consumers.Transient, maxWait}, {503, "soon", consumers.Transient, 0},
		{503, "Fri, 02 Jan 2026 03:00:05 GMT", consumers.Transient, 0}, {503, "99999999999999999999999", consumers.Transient, 0},
	} {
		err := c.Post(t.Context(), http.Header{"Give": {fmt.Sprint(want.code)}, "Wait": {want.after}}, []byte("x"))
		if (err == nil) != (want.code/100 == 2) || consumers.Classify(err) != want.class || consumers.Wait(err) != want.wait {
			t.Errorf("%d %q: %v, class %d, wait %v", want.code, want.after, err, consumers.Classify(err), consumers.Wait(err))
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") || !strings.Contains(err.Error(), "127.0.0.1")) {
			t.Errorf("the error tells too much, or not where: %v", err)
		}
	}
}

func TestNoAnswerIsTransientAndTellsNoSecret(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	slow, err := New(Config{URL: server.URL + "/t0ken?key=s3cret", Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Post(t.Context(), nil, nil); err == nil || consumers.Classify(err) != consumers.Transient || strings.Contains(err.Error(), "t0ken") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("slow: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := slow.Post(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(hang)
	server.Close()
	if err := slow.Post(t.Context(), nil, nil); err == nil || consumers.Classify(err) != consumers.Transient || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("closed: %v", err)
	}
}

// A certificate that nobody vouches for is no answer: nothing was sent.
func TestCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	reached := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	c, err := New(Config{URL: server.URL, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Post(t.Context(), nil, nil); err == nil || reached {
		t.Errorf("posted to a stranger: %v", err)
	}
	trusting, err := New(Config{URL: server.URL, Timeout: time.Minute, TLS: server.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	if err := trusting.Post(t.Context(), nil, nil); err != nil || !reached {
		t.Errorf("posted to a known server: %v", err)
	}
}

// An answer without an end is not read to it.
func TestAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("ab\x00\x1b[31m", 1000))); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Post(t.Context(), nil, nil)
	if consumers.Classify(err) != consumers.Poison || len(err.Error()) > maxShown+100 || strings.ContainsAny(err.Error(), "\x00\x1b") {
		t.Errorf("%q", err)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "host", "ftp://host", "https://", "https://u:s3cret@host", "https://host/#s3cret", "http://ho st/s3cret"} {
		if err := CheckURL(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := errors.Join(CheckURL("https://host/a?b=c"), CheckURL("http://127.0.0.1:80")); err != nil {
		t.Error(err)
	}
	for _, bad := range []map[string]string{{"": "s3cret"}, {"a b": "s3cret"}, {"A": "s3cret\n"}, {"Webhook-Id": "s3cret"}, {"CE-id": "s3cret"}, {"host": "s3cret"}, {"To\u212aen": "s3cret"}} {
		if err := CheckHeaders(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckHeaders(map[string]string{"Authorization": "Bearer x", "X-A_b": ""}); err != nil {
		t.Error(err)
	}
}

// A server that repeats the address it was asked for does not bring it into an error: many do so with 404.
func TestAnAddressThatComesBackIsHidden(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "Cannot POST %s, %s, %s; no hook %s; %q", r.URL.Path, r.RequestURI, html.EscapeString(r.RequestURI), r.URL.Path[len("/hooks/"):], r.URL.Query())
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL + "/hooks/t0ken%26more-of-it?key=s3cr%2Fet&b=", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Post(t.Context(), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "Cannot POST") || !strings.Contains(err.Error(), "no hook") {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"t0ken", "more-of-it", "s3cr"} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("%q is shown: %v", part, err)
		}
	}
}

// What is no HTTP is not repeated at length.
func TestAnAnswerThatIsNoneIsBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "%s%s\r\n\r\n", r.Header.Get("Key"), strings.Repeat("x", 4*maxShown))
		_ = conn.Close()
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL, Headers: map[string]string{"Key": "s3cret"}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Post(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "xxx") || len(err.Error()) > maxShown+100 || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%d bytes: %v", len(err.Error()), err)
	}
}
