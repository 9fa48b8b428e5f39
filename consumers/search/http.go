package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Path is where Handler expects to be mounted.
const Path = "/v1/search"

// maxRawQuery bounds the query part of a request's address, in bytes. Text is at most a third of it: each byte may be escaped.
const maxRawQuery = 3*MaxText + 2<<10

// response is what the handler writes.
type response struct {
	Entity string  `json:"entity"`
	Total  uint64  `json:"total"`
	TookMS float64 `json:"took_ms"`
	Hits   []hit   `json:"hits"`
}

type hit struct {
	Key     string         `json:"key"`
	Score   float64        `json:"score"`
	Version int64          `json:"version"`
	Fields  map[string]any `json:"fields"`
}

// Handler answers
//
//	GET /v1/search?entity=order&q=status:shipped&size=10&from=0&sort=-total,placed_at&timeout=2s
//
// with JSON: {"entity", "total", "took_ms", "hits": [{"key", "score", "version", "fields"}]}, or {"error"} and a status: 400 for a
// query that cannot be answered, 404 for an unknown entity, 503 when busy, 504 when its time is over, 500 for what is not the
// asker's fault; only that is logged. A nil logger means slog.Default.
func Handler(s Searcher, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.Default()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "search answers GET")
			return
		}
		q, err := parse(r.URL)
		if err != nil {
			writeError(w, http.StatusBadRequest, err.Error())
			return
		}
		res, err := s.Search(r.Context(), q)
		if err != nil {
			status := statusOf(err)
			message := err.Error()
			if status == http.StatusInternalServerError {
				log.Error("search", "entity", q.Entity, "err", err)
				message = "the index could not be read"
			}
			writeError(w, status, message)
			return
		}
		writeJSON(w, http.StatusOK, render(q.Entity, res))
	})
}

func parse(u *url.URL) (Query, error) {
	if len(u.RawQuery) > maxRawQuery {
		return Query{}, badQuery("the address has %d bytes behind the question mark, at most %d", len(u.RawQuery), maxRawQuery)
	}
	v, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Query{}, badQuery("%v", err)
	}
	q := Query{Entity: v.Get("entity"), Text: v.Get("q")}
	if s := v.Get("sort"); s != "" {
		q.Sort = strings.Split(s, ",")
	}
	if q.Size, err = number(v, "size", DefaultSize); err != nil {
		return Query{}, err
	}
	if q.Size == 0 {
		q.Size = -1 // asked for: only the total
	}
	if q.From, err = number(v, "from", 0); err != nil {
		return Query{}, err
	}
	if s := v.Get("timeout"); s != "" {
		if q.Timeout, err = time.ParseDuration(s); err != nil {
			return Query{}, badQuery("timeout %q is no duration such as 500ms", s)
		}
	}
	return q, nil
}

func number(v url.Values, name string, unset int) (int, error) {
	s := v.Get(name)
	if s == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, badQuery("%s %q is no number of hits", name, s)
	}
	return n, nil
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrBadQuery), errors.Is(err, ErrTooExpensive):
		return http.StatusBadRequest
	case errors.Is(err, ErrUnknownEntity):
		return http.StatusNotFound
	case errors.Is(err, ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrTimeout):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

func render(entity string, res *Result) response {
	out := response{Entity: entity, Total: res.Total, TookMS: float64(res.Took.Microseconds()) / 1000, Hits: make([]hit, len(res.Hits))}
	for i, h := range res.Hits {
		out.Hits[i] = hit(h)
	}
	return out
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, fmt.Appendf(nil, "{%q:%q}", "error", "the answer has no JSON form")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the asker may be gone: nobody is left to tell
}
