package registry_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/registry"
)

// answering is a registry that answers every request in one way.
func answering(t *testing.T, status int, body string) string {
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func serving(t *testing.T, h http.HandlerFunc) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func TestWhatARegistryAnswersBecomesAnErrorToDecideBy(t *testing.T) {
	for name, tc := range map[string]struct {
		status    int
		body      string
		want      error
		transient bool
	}{
		"unknown id":              {404, `{"error_code":40403,"message":"Schema not found"}`, registry.ErrNotFound, false},
		"a 404 of something else": {404, `<html>no such page</html>`, registry.ErrUnavailable, true},
		"a 404 of another API":    {404, `{"error_code":404,"message":"HTTP 404 Not Found"}`, registry.ErrUnavailable, true},
		"unauthorized":            {401, `{"error_code":401,"message":"who are you"}`, registry.ErrUnauthorized, false},
		"forbidden":               {403, `no`, registry.ErrUnauthorized, false},
		"overloaded":              {503, `busy`, registry.ErrUnavailable, true},
		"too many requests":       {429, `{"error_code":429,"message":"slow down"}`, registry.ErrUnavailable, true},
		"its store is down":       {500, `{"error_code":50001,"message":"backend"}`, registry.ErrUnavailable, true},
		"not JSON":                {200, `hello`, registry.ErrUnavailable, true},
		"another kind of schema":  {200, `{"schemaType":"PROTOBUF","schema":"syntax"}`, registry.ErrInvalid, false},
		"refused":                 {422, `{"error_code":42201,"message":"Invalid schema"}`, registry.ErrInvalid, false},
		"too large":               {200, `{"schema":"` + strings.Repeat("x", 9<<20) + `"}`, registry.ErrInvalid, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, answering(t, tc.status, tc.body)).Schema(t.Context(), 1)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if registry.IsTransient(err) != tc.transient {
				t.Fatalf("transient: got %v for %v", registry.IsTransient(err), err)
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestARegistryThatIsAwayIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, url)
	if _, err := client.Register(t.Context(), "s", v1); !registry.IsTransient(err) {
		t.Fatalf("got %v", err)
	}
	if err := client.Ping(t.Context()); !registry.IsTransient(err) {
		t.Fatalf("got %v", err)
	}
}

// hanging is a registry that never answers, and the number of requests that reached it.
func hanging(t *testing.T) (url string, reached chan struct{}) {
	reached = make(chan struct{}, 16)
	release := make(chan struct{})
	url = serving(t, func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	return url, reached
}

func TestARequestEndsWithItsContext(t *testing.T) {
	url, reached := hanging(t)
	client := newClient(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := client.Schema(ctx, 1)
	if !errors.Is(err, context.Canceled) || registry.IsTransient(err) {
		t.Fatalf("got %v, want the context's own error", err)
	}
}

func TestARequestEndsAfterTheTimeout(t *testing.T) {
	url, _ := hanging(t)
	client, err := registry.New(registry.Config{URL: url, Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Schema(t.Context(), 1); !registry.IsTransient(err) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
}

func TestAnIDIsAskedForOnce(t *testing.T) {
	var asked atomic.Int32
	gate := make(chan struct{})
	client := newClient(t, serving(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-gate
		_, _ = w.Write([]byte(`{"schema":"\"string\""}`))
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if text, err := client.Schema(t.Context(), 7); err != nil || text != `"string"` {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if _, err := client.Schema(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 1 {
		t.Fatalf("asked %d times", n)
	}
}

func TestWhoWaitsIsNotHurtByTheAskerLeaving(t *testing.T) {
	first := make(chan struct{}, 1)
	var asked atomic.Int32
	client := newClient(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			first <- struct{}{}
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte(`{"schema":"\"string\""}`))
	}))
	leaving, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := client.Schema(leaving, 7); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
	})
	<-first
	wg.Go(func() {
		if _, err := client.Schema(t.Context(), 7); err != nil {
			t.Errorf("the one who stayed: %v", err)
		}
	})
	leave()
	wg.Wait()
}

func TestCredentialsAreSentAndNeverShown(t *testing.T) {
	url := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "alice" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`["a"]`))
	})
	host := strings.TrimPrefix(url, "http://")
	client := newClient(t, "http://alice:s3cret@"+host)
	if subjects, err := client.Subjects(t.Context()); err != nil || len(subjects) != 1 {
		t.Fatalf("%v, %v", subjects, err)
	}
	if strings.Contains(client.URL(), "s3cret") {
		t.Errorf("URL %s", client.URL())
	}
	wrong := newClient(t, "http://alice:wr0ng@"+host)
	if _, err := wrong.Subjects(t.Context()); !errors.Is(err, registry.ErrUnauthorized) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"http://alice:s3cret@", "://alice:s3cret@host", "ftp://alice:s3cret@host", "http://alice:s3cret@host?x=1", "http://a:s3cret@host:port"} {
		_, err := registry.New(registry.Config{URL: bad})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCredentialsStayAtHome(t *testing.T) {
	var leaked atomic.Bool
	elsewhere := serving(t, func(w http.ResponseWriter, r *http.Request) {
		_, _, sent := r.BasicAuth()
		leaked.Store(sent)
		_, _ = w.Write([]byte(`[]`))
	})
	home := serving(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	client, err := registry.New(registry.Config{URL: home, Username: "alice", Password: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Subjects(t.Context()); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() {
		t.Fatal("the password went to another host")
	}
}

func TestReferencesAreWrittenIntoTheText(t *testing.T) {
	const (
		money = `{"type":"record","name":"Money","namespace":"test","fields":[{"name":"cents","type":"long"}]}`
		line  = `{"type":"record","name":"Line","namespace":"test","fields":[{"name":"price","type":"Money"}]}`
		order = `{"type":"record","name":"Order","namespace":"test","fields":[{"name":"lines","type":{"type":"array","items":"Line"}}]}`
	)
	quote := func(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }
	answers := map[string]string{
		"/schemas/ids/3":             `{"schema":"` + quote(order) + `","references":[{"name":"test.Line","subject":"line","version":1}]}`,
		"/subjects/line/versions/1":  `{"subject":"line","version":1,"id":2,"schema":"` + quote(line) + `","references":[{"name":"test.Money","subject":"money","version":1}]}`,
		"/subjects/money/versions/1": `{"subject":"money","version":1,"id":1,"schema":"` + quote(money) + `"}`,
		"/schemas/ids/4":             `{"schema":"` + quote(order) + `","references":[{"name":"test.Line","subject":"money","version":1}]}`,
		"/schemas/ids/5":             `{"schema":"` + quote(order) + `","references":[{"name":"test.Line","subject":"gone","version":1}]}`,
	}
	client := newClient(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"error_code":40401,"message":"Subject not found."}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	text, err := client.Schema(t.Context(), 3)
	if err != nil || !strings.Contains(text, `"cents"`) {
		t.Fatalf("%s, %v", text, err)
	}
	if _, err := client.Schema(t.Context(), 4); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a reference that is not what it says: %v", err)
	}
	if _, err := client.Schema(t.Context(), 5); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a reference to nothing: %v", err)
	}
}
