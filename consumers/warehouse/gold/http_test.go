package gold

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// slow is a warehouse that takes longer for a build than the server does for reading a request.
type slow struct {
	Engine
	takes time.Duration
}

func (s slow) Transaction(ctx context.Context, _ func(Tx) error) error {
	select {
	case <-time.After(s.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A build that is asked for over HTTP takes as long as it takes: the time that a server gives to a request is for reading it.
func TestABuildOutlastsTheReadTimeout(t *testing.T) {
	t.Parallel()
	m, err := Parse("one.sql", []byte("select 1 as a from {{ silver.order }}"))
	if err != nil {
		t.Fatal(err)
	}
	graph, err := NewGraph([]*Model{m}, []string{"order"})
	if err != nil {
		t.Fatal(err)
	}
	const readTimeout = 3 * time.Second
	r, err := New(Config{Engine: slow{takes: 2 * readTimeout}, Graph: graph})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(Handler(r, nil))
	server.Config.ReadTimeout = readTimeout
	server.Start()
	defer server.Close()
	resp, err := http.Post(server.URL+"/v1/gold", "application/json", strings.NewReader(`{"model": "one"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"model":"one"`) {
		t.Errorf("%s: %s", resp.Status, body)
	}
}

func TestTheNoteNamesWhatHasStopped(t *testing.T) {
	t.Parallel()
	for want, all := range map[string][]Status{
		"":                                       {{Model: "a", State: "fresh"}, {Model: "b", State: "behind"}, {Model: "c", State: "undeclared"}},
		"gold is old: b failed, c halted: millr": {{Model: "a", State: "fresh"}, {Model: "b", State: "failed"}, {Model: "c", State: "halted"}},
		"e failed, 1 more: millrace gold status": {{Model: "a", State: "failed"}, {Model: "b", State: "failed"}, {Model: "c", State: "failed"}, {Model: "d", State: "failed"},
			{Model: "e", State: "failed"}, {Model: "f", State: "halted"}},
	} {
		if got := noteOf(all); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("the note is %q, want %q", got, want)
		}
	}
}
