package opensearch

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/search"
)

// stranger answers every request in the same way.
func stranger(t testing.TB, status int, contentType, answer string) *Sink {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	return bareSink(t, server.URL)
}

// bareSink is a sink that has not looked for its indices.
func bareSink(t testing.TB, url string) *Sink {
	t.Helper()
	cfg := Config{URL: url, Projections: []fold.Projection{first}, Logger: slog.New(slog.DiscardHandler), CommitTimeout: 200 * time.Millisecond}.WithDefaults()
	cl, err := newClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := names{prefix: cfg.Prefix, generation: 1}
	layouts, err := newLayouts(n, cfg.Projections)
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{cfg: cfg, log: cfg.Logger, metrics: newMetrics(nil), client: cl, names: n, layouts: layouts, bulks: make(chan struct{}, 1), searches: make(chan struct{}, 1)}
	s.bodies.New = func() any { return new([]byte) }
	return s
}

// noState is an answer in which the document's state is none that the sink wrote: it is a stranger's document, and to load it is no error.
const noState = `{"found":true,"_source":{"epoch":1,"next":-1},"docs":[{"_id":"a","found":true,"_source":{"_state":"//////////8="}}],"items":[{"index":{"status":0}}],"_shards":{"failed":1}}`

func TestAnswersOfStrangersAreErrors(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	for _, answer := range []struct {
		status int
		kind   string
		text   string
	}{
		{200, "text/html", "<html>sign in</html>"},
		{200, "application/json", ""},
		{200, "application/json", "null"},
		{200, "application/json", "[]"},
		{200, "application/json", `{"docs":[],"items":[],"hits":{"hits":[{"_source":{"_state":"AAAA"}}]}}`},
		{200, "application/json", `{"found":true,"_source":{"epoch":"x"},"docs":[{"_id":"b","found":true}],"items":[{}],"timed_out":true}`},
		{200, "application/json", noState},
		{200, "application/json", `{"found":true,"_source":{"epoch":1,"next":-1},"docs":[{"_id":"a","error":{"type":"x","reason":"y"}}],"items":[{"index":{"status":201},"more":{"status":201}}],"hits":{"total":{"value":-1}}}`},
		{200, "application/json", deep},
		{200, "application/json", `{"docs":` + strings.Repeat(" ", maxAnswer+10) + `[]}`},
		{302, "text/html", "elsewhere"},
		{404, "text/html", "no such page"},
		{500, "application/json", `{"error":"plain text"}`},
		{502, "text/html", "<html>bad gateway</html>"},
		{503, "application/json", deep},
		{599, "application/json", `{"error":{"type":"` + strings.Repeat("\u202e\n", 9000) + `"}}`},
	} {
		s := stranger(t, answer.status, answer.kind, answer.text)
		name := fmt.Sprintf("%d %.40s", answer.status, answer.text)
		if _, err := s.Load(t.Context(), "item", []string{"a"}); (err == nil) != (answer.text == noState) {
			t.Errorf("%s: load: %v", name, err)
		}
		if _, err := s.Search(t.Context(), search.Query{Entity: "item"}); err == nil {
			t.Errorf("%s: search is happy", name)
		}
		if _, err := s.Positions(t.Context()); err == nil {
			t.Errorf("%s: positions are happy", name)
		}
		err := s.Commit(t.Context(), batch(0, 1, "a", state(1, "1")))
		if err == nil {
			t.Errorf("%s: commit is happy", name)
		} else if len(err.Error()) > 2*maxReason || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
}

// An answer about documents must be about those that were sent.
func TestAnswersToBulkRequestsAreCounted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"items":[{"index":{"status":201}},{"index":{"status":200}}]}`:                                                                        true,
		`{"items":[{"index":{"status":201}},{"index":{"status":409,"error":{"type":"version_conflict_engine_exception"}}}]}`:                   true,
		`{"items":[{"index":{"status":201}},{"index":{"status":409,"error":{"type":"something_else"}}}]}`:                                      false,
		`{"items":[{"index":{"status":201}}]}`:                                                                                                 false,
		`{"items":[{"index":{"status":201}},{"index":{"status":201}},{"index":{"status":201}}]}`:                                               false,
		`{"items":[{"index":{"status":201}} {"index":{"status":201}}]}`:                                                                        false,
		`{"items":[{"index":{"status":201}},{"index":{"status":20x}}]}`:                                                                        false,
		`{"items":[{"index":{"status":201}},{"index":{"status":302}}]}`:                                                                        false,
		`{"items":[{"index":{"status":201}},{}]}`:                                                                                              false,
		`{"items":[{"index":{"status":201}},{"index":{"status":404,"error":{"type":"index_not_found_exception"}}}]}`:                           false,
		`{"items":[{"index":{"status":201}},{"index":{"status":500,"error":{"type":"engine_closed"}}}]}`:                                       false,
		`{"errors":false,"items":[ {"index":{"status":201}},{"create":{"status":201,"_id":"x"}}]}`:                                             true,
		`{"items":[{"index":{"status":201}},{"index":{"status":400,"error":{"type":"x","reason":"[require_alias] request flag is [true]"}}}]}`: false,
	} {
		v, err := readVerdicts([]byte(text), 2)
		if good := err == nil && v.busy == 0 && v.refused == nil; good != want {
			t.Errorf("%s: %+v, %v", text, v, err)
		}
	}
}

// The password is for the server that was named.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else is asked %s", r.URL)
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	s := bareSink(t, server.URL)
	if _, err := s.Load(t.Context(), "item", []string{"a"}); err == nil {
		t.Error("load is happy")
	}
}

func TestAServerThatDoesNotAnswerIsAwayAndNotAFault(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := Open(Config{URL: strings.Replace(server.URL, "http://", "http://me:s3cret@", 1), Projections: []fold.Projection{first}})
	if err == nil || consumers.Classify(err) == consumers.Systemic || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := Config{URL: "https://me:s3cret@h:9200/below/", Projections: []fold.Projection{first}}
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"URL is missing":      func(c *Config) { c.URL = "" },
		"URL: the URL is not": func(c *Config) { c.URL = "https://me:s3cret@h:port" },
		"URL: the URL":        func(c *Config) { c.URL = "https://me:s3cret@h?x=1" },
		"Prefix":              func(c *Config) { c.Prefix = "UP" },
		"Generation is -1":    func(c *Config) { c.Generation = -1 },
		"Projections":         func(c *Config) { c.Projections = nil },
		"MaxInFlight -1":      func(c *Config) { c.MaxInFlight = -1 },
		"RequestTimeout -1":   func(c *Config) { c.RequestTimeout = -1 },
	} {
		cfg := good
		change(&cfg)
		err := cfg.WithDefaults().validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
	}
	cl, err := newClient(good.WithDefaults())
	if err != nil || cl.base != "https://h:9200/below" || cl.user != "me" || cl.password != "s3cret" {
		t.Errorf("%+v, %v", cl, err)
	}
	if !errors.Is(classify(&statusError{status: 400, reason: "x [require_alias] y"}), ErrLost) {
		t.Error("an alias that is gone is not noticed")
	}
}
