package warehouse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/warehouse"
)

// answers is a Querier that answers with a function.
type answers func(ctx context.Context, sql string, l warehouse.Limits) (*warehouse.Result, error)

func (a answers) Query(ctx context.Context, sql string, l warehouse.Limits) (*warehouse.Result, error) {
	return a(ctx, sql, l)
}

func post(q warehouse.Querier, log *slog.Logger, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/sql", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	warehouse.Handler(q, log).ServeHTTP(w, r)
	return w
}

func TestAQueryTravelsExactly(t *testing.T) {
	want := &warehouse.Result{
		Columns: []string{"id", "total", "lines"}, Types: []string{"BIGINT", "DECIMAL(38,18)", "INTEGER[]"}, Truncated: true, Elapsed: 1500 * time.Microsecond,
		Rows: [][]any{{json.Number("9223372036854775807"), json.Number("0.100000000000000000"), json.RawMessage("[1,2]")}, {nil, nil, nil}},
	}
	q := answers(func(_ context.Context, sql string, l warehouse.Limits) (*warehouse.Result, error) {
		if sql != "select 1" || l.MaxRows != 7 || l.Timeout != 3*time.Second {
			return nil, fmt.Errorf("asked %q with %+v", sql, l)
		}
		return want, nil
	})
	w := post(q, nil, "application/json; charset=utf-8", `{"sql": "select 1", "max_rows": 7, "timeout": "3s"}`)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	const text = `{"columns":["id","total","lines"],"types":["BIGINT","DECIMAL(38,18)","INTEGER[]"],` +
		`"rows":[[9223372036854775807,0.100000000000000000,[1,2]],[null,null,null]],"truncated":true,"elapsed":"1.5ms"}` + "\n"
	if w.Body.String() != text {
		t.Errorf("got %s", w.Body)
	}
	var got warehouse.Result
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want.Rows[0][2] = []any{json.Number("1"), json.Number("2")}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("a client reads %+v, want %+v", got, want)
	}
}

func TestErrorsHaveTheirStatus(t *testing.T) {
	secret := errors.New("open /var/lib/secret: input/output error")
	cases := []struct {
		name, contentType, body string
		err                     error
		status                  int
		text                    string
	}{
		{"wrong SQL", "application/json", `{"sql": "selec"}`, fmt.Errorf("%w: syntax error", warehouse.ErrInvalid), 400, "syntax error"},
		{"refused", "application/json", `{"sql": "drop"}`, warehouse.ErrRefused, 403, "only statements that read"},
		{"too slow", "application/json", `{"sql": "x"}`, warehouse.ErrTimeout, 408, "too long"},
		{"too large", "application/json", `{"sql": "x"}`, warehouse.ErrTooMuch, 422, "memory"},
		{"busy", "application/json", `{"sql": "x"}`, warehouse.ErrBusy, 429, "too many"},
		{"the server's trouble", "application/json", `{"sql": "x"}`, secret, 500, "its log says why"},
		{"a form of another site", "text/plain", `{"sql": "x"}`, nil, 415, "application/json"},
		{"no JSON", "application/json", `sql`, nil, 400, "not as expected"},
		{"an unknown field", "application/json", `{"sqll": "x"}`, nil, 400, "sqll"},
		{"two requests", "application/json", `{"sql": "x"} {}`, nil, 400, "goes on"},
		{"no duration", "application/json", `{"sql": "x", "timeout": "fast"}`, nil, 400, "fast"},
		{"a negative duration", "application/json", `{"sql": "x", "timeout": "-1s"}`, nil, 400, "-1s"},
		{"a huge request", "application/json", `{"sql": "` + strings.Repeat("x", 300<<10) + `"}`, nil, 413, "larger than 256 KiB"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			q := answers(func(context.Context, string, warehouse.Limits) (*warehouse.Result, error) { return nil, c.err })
			w := post(q, slog.New(slog.NewTextHandler(&log, nil)), c.contentType, c.body)
			var body struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("%q is no JSON: %v", w.Body, err)
			}
			if w.Code != c.status || !strings.Contains(body.Error, c.text) || strings.Contains(body.Error, "secret") {
				t.Errorf("got %d %q, want %d with %q", w.Code, body.Error, c.status, c.text)
			}
			if logged := strings.Contains(log.String(), "secret"); logged != (c.status == 500) {
				t.Errorf("the log is %q", log.String())
			}
		})
	}
}

func TestOtherMethodsAndPathsAreNotServed(t *testing.T) {
	h := warehouse.Handler(answers(nil), nil)
	for target, want := range map[string]int{"/v1/sql": 405, "/v1/other": 404} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != want {
			t.Errorf("GET %s is %d, want %d", target, w.Code, want)
		}
	}
}

func TestLimitsStayWithinTheirMaximum(t *testing.T) {
	got := warehouse.Limits{MaxRows: 1 << 40, Timeout: time.Hour, MaxBytes: 1 << 40}.WithDefaults()
	if want := (warehouse.Limits{MaxRows: warehouse.MaxRows, Timeout: warehouse.MaxTimeout, MaxBytes: warehouse.MaxBytes}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := (warehouse.Limits{}).WithDefaults(); got.MaxRows != 1000 || got.Timeout != 10*time.Second {
		t.Errorf("defaults are %+v", got)
	}
}
