package warehouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"
)

// maxRequestBytes is the size of the largest request, in bytes.
const maxRequestBytes = 256 << 10

// statusClientClosed is the usual, if unofficial, status of a request whose client has gone.
const statusClientClosed = 499

// request is the body of POST /v1/sql.
type request struct {
	SQL string `json:"sql"`
	// MaxRows and Timeout are as in Limits; Timeout is a Go duration ("30s").
	MaxRows int    `json:"max_rows"`
	Timeout string `json:"timeout"`
}

// errorBody is what every answer but 200 holds.
type errorBody struct {
	Error string `json:"error"`
}

// Handler serves POST /v1/sql: {"sql": "select …", "max_rows": 1000, "timeout": "10s"} is answered with a Result as JSON, an error
// with {"error": "…"} and 400 (wrong), 403 (refused), 408 (too slow), 422 (too large), 429 (busy) or 500. The body must be
// application/json, which no page of another site can send unasked. The logger gets what is the server's own trouble; nil logs nothing.
func Handler(q Querier, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sql", func(w http.ResponseWriter, r *http.Request) { serve(q, log, w, r) })
	return mux
}

func serve(q Querier, log *slog.Logger, w http.ResponseWriter, r *http.Request) {
	sql, limits, status, err := readRequest(w, r)
	if err != nil {
		reply(w, log, status, errorBody{err.Error()})
		return
	}
	res, err := q.Query(r.Context(), sql, limits)
	if err != nil {
		status := statusOf(r, err)
		if status == http.StatusInternalServerError {
			log.Error("query", "err", err)
			err = errors.New("the warehouse could not answer; its log says why")
		}
		reply(w, log, status, errorBody{err.Error()})
		return
	}
	reply(w, log, http.StatusOK, res)
}

func readRequest(w http.ResponseWriter, r *http.Request) (sql string, l Limits, status int, err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", l, http.StatusUnsupportedMediaType, errors.New("send Content-Type: application/json")
	}
	var req request
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return "", l, http.StatusRequestEntityTooLarge, fmt.Errorf("the request is larger than %d KiB", maxRequestBytes>>10)
		}
		return "", l, http.StatusBadRequest, fmt.Errorf("the request is not as expected: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", l, http.StatusBadRequest, errors.New("the request goes on after its end")
	}
	if req.Timeout != "" {
		if l.Timeout, err = time.ParseDuration(req.Timeout); err != nil || l.Timeout <= 0 {
			return "", l, http.StatusBadRequest, fmt.Errorf("timeout %q is no duration such as 30s", req.Timeout)
		}
	}
	l.MaxRows = req.MaxRows
	return req.SQL, l, http.StatusOK, nil
}

func statusOf(r *http.Request, err error) int {
	switch {
	case errors.Is(err, ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, ErrRefused):
		return http.StatusForbidden
	case errors.Is(err, ErrTimeout):
		return http.StatusRequestTimeout
	case errors.Is(err, ErrTooMuch):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrBusy):
		return http.StatusTooManyRequests
	case r.Context().Err() != nil:
		return statusClientClosed
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, log *slog.Logger, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		log.Error("write the answer to a query", "err", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(append(text, '\n')); err != nil {
		log.Debug("the client of a query has gone", "err", err)
	}
}
