package sink

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// opening adds a kind whose store opens as the test says, for the length of the test.
func opening(t *testing.T, open func(attempt int) error) Config {
	t.Helper()
	attempts := 0
	kinds["fake"] = kind{role: Search, needs: "path", bronze: true, serves: "search",
		open: func(Config, Parts, []fold.Projection, *slog.Logger) (backend, error) {
			attempts++
			return backend{}, open(attempts)
		}}
	t.Cleanup(func() { delete(kinds, "fake") })
	return Config{Name: "a", Kind: "fake", Path: "x", Topics: []string{"t"}}
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A store that is away is told once and tried again without end: not a line an attempt.
func TestAStoreThatIsAwayIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		tried := 0
		cfg := opening(t, func(attempt int) error { tried = attempt; return errors.New("connection refused") })
		s, err := New(cfg, Parts{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Hour) // of the test's clock
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "sink=a") {
			t.Errorf("%d lines in an hour:\n%s", n, log.String())
		}
		if most := int(time.Hour/openRetryMax) + 10; tried < 300 || tried > most {
			t.Errorf("tried %d times in an hour, at most %d", tried, most)
		}
		if err := s.Ready(); err == nil || err.Error() != "connection refused" {
			t.Errorf("ready: %v", err)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/search", nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"sink a is not ready: connection refused"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopping while waiting is no failure: %v", err)
		}
	})
}

// What does not pass by itself ends the sink at once, and stays to be seen.
func TestASystemicFailureEndsTheSink(t *testing.T) {
	cfg := opening(t, func(int) error { return consumers.AsSystemic(errors.New("the file is another's")) })
	s, err := New(cfg, Parts{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err == nil {
		t.Error("ready before it ran")
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the file is another's") {
		t.Error(err)
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "the file is another's") {
		t.Errorf("ready: %v", err)
	}
}

func TestOnlyStoresThatAnswerHaveAHandler(t *testing.T) {
	for kind, path := range map[string]string{"duckdb": "sql", "postgres": "sql", "bleve": "search", "redis": "", "webhook": ""} {
		s := &Sink{cfg: Config{Kind: kind}}
		if s.Path() != path || (s.Handler() != nil) != (path != "") {
			t.Errorf("%s: %q", kind, s.Path())
		}
	}
}
