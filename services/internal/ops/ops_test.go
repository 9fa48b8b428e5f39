package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServerSaysWhatIsWrong(t *testing.T) {
	s, err := Listen("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var broken atomic.Bool
	broken.Store(true)
	s.Add(Role{Name: "relay shop", Status: func() any { return map[string]int{"seq": 7} }, Ready: func() error {
		if broken.Load() {
			return errors.New("postgres is away,\nsince noon")
		}
		return nil
	}})
	s.Add(Role{Name: "relay standby", Ready: func() error { return nil }, Note: func() string { return "stands by" }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	base := "http://" + s.Addr()

	if code, text := get(t, base+"/readyz"); code != 503 || text != "relay shop: postgres is away, since noon\nrelay standby: ok (stands by)\n" {
		t.Errorf("%d %q", code, text)
	}
	// Restarting mends nothing, so the process is alive; what is wrong is said all the same.
	if code, text := get(t, base+"/livez"); code != 200 || text != "ok\nrelay shop: postgres is away, since noon\nrelay standby: ok (stands by)\n" {
		t.Errorf("%d %q", code, text)
	}
	broken.Store(false)
	if code, text := get(t, base+"/readyz"); code != 200 || text != "relay shop: ok\nrelay standby: ok (stands by)\n" {
		t.Errorf("%d %q", code, text)
	}
	if code, text := get(t, base+"/v1/status"); code != 200 || strings.TrimSpace(text) != `{"relay shop":{"seq":7}}` {
		t.Errorf("%d %q", code, text)
	}
	if code, text := get(t, base+"/metrics"); code != 200 || !strings.Contains(text, "go_goroutines") {
		t.Errorf("%d", code)
	}
	for host, want := range map[string]int{"evil.example:8088": 403, "localhost:8088": 200, "127.0.0.1": 200, "[::1]:1": 200, "": 200} {
		req, err := http.NewRequest(http.MethodGet, base+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a page called %q gets %d, want %d", host, resp.StatusCode, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGroupReturnsTheFirstError(t *testing.T) {
	boom := errors.New("boom")
	g := NewGroup(context.Background())
	g.Go("a", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	g.Go("b", func(context.Context) error { return boom })
	if err := g.Wait(); !errors.Is(err, boom) || err.Error() != "b: boom" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g = NewGroup(ctx)
	g.Go("a", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	cancel()
	if err := g.Wait(); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
	g = NewGroup(context.Background())
	g.Go("a", func(context.Context) error { return nil })
	if err := g.Wait(); !errors.Is(err, errEnded) {
		t.Error(err)
	}
}
