package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/search"
)

// answer is a backend that answers as told.
type answer struct {
	asked search.Query
	res   *search.Result
	err   error
}

func (a *answer) Search(_ context.Context, q search.Query) (*search.Result, error) {
	a.asked = q
	return a.res, a.err
}

func get(t *testing.T, s search.Searcher, method, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	search.Handler(s, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(method, target, nil))
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s answers %s", target, ct)
	}
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestHandlerPassesOnWhatIsAsked(t *testing.T) {
	a := &answer{res: &search.Result{Total: 7, Took: 1500 * time.Microsecond, Hits: []search.Hit{
		{Key: "o-1", Score: 0.5, Version: 3, Fields: map[string]any{"total": json.Number("12.50")}}}}}
	status, body := get(t, a, "GET", "/v1/search?entity=order&q=status%3Ashipped+%2Bblue&size=3&from=2&sort=-total,placed_at&timeout=1s")
	want := search.Query{Entity: "order", Text: "status:shipped +blue", Size: 3, From: 2, Sort: []string{"-total", "placed_at"}, Timeout: time.Second}
	if !reflect.DeepEqual(a.asked, want) {
		t.Errorf("asked %+v, want %+v", a.asked, want)
	}
	const answer = `{"entity":"order","total":7,"took_ms":1.5,"hits":[{"key":"o-1","score":0.5,"version":3,"fields":{"total":12.50}}]}`
	if status != http.StatusOK || body != answer {
		t.Errorf("%d %s", status, body)
	}
	if _, _ = get(t, a, "GET", "/v1/search?entity=order&size=0"); a.asked.Size >= 0 {
		t.Errorf("size=0 asks for the total only, got %+v", a.asked)
	}
	if _, _ = get(t, a, "GET", "/v1/search?entity=order"); a.asked.Size != search.DefaultSize {
		t.Errorf("without a size: %+v", a.asked)
	}
}

func TestHandlerTellsWhoseFaultItIs(t *testing.T) {
	for target, want := range map[string]int{
		"/v1/search?size=x":                           400,
		"/v1/search?size=-1":                          400,
		"/v1/search?from=99999999999999999999":        400,
		"/v1/search?timeout=soon":                     400,
		"/v1/search?q=%zz":                            400,
		"/v1/search?q=" + strings.Repeat("a", 20_000): 400,
		"/v1/search?entity=order&q=a;b":               400,
	} {
		if status, body := get(t, &answer{}, "GET", target); status != want || !strings.Contains(body, `"error"`) {
			t.Errorf("%.40s: %d %s", target, status, body)
		}
	}
	for err, want := range map[error]int{
		search.ErrBadQuery: 400, search.ErrTooExpensive: 400, search.ErrUnknownEntity: 404, search.ErrBusy: 503, search.ErrTimeout: 504,
	} {
		if status, body := get(t, &answer{err: fmt.Errorf("%w: because", err)}, "GET", "/v1/search?entity=x"); status != want || !strings.Contains(body, "because") {
			t.Errorf("%v: %d %s", err, status, body)
		}
	}
	if status, body := get(t, &answer{err: errors.New("secret path")}, "GET", "/v1/search?entity=x"); status != 500 || strings.Contains(body, "secret") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(t, &answer{}, "POST", "/v1/search?entity=x"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST answers %d", status)
	}
}

func ExampleHandler() {
	index := &answer{res: &search.Result{Total: 1, Hits: []search.Hit{{Key: "o-17", Version: 4, Fields: map[string]any{"status": "shipped"}}}}}
	mux := http.NewServeMux()
	mux.Handle(search.Path, search.Handler(index, nil))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/v1/search?entity=order&q=status:shipped", nil))
	_, _ = w.Body.WriteTo(os.Stdout)
	// Output: {"entity":"order","total":1,"took_ms":0,"hits":[{"key":"o-17","score":0,"version":4,"fields":{"status":"shipped"}}]}
}
