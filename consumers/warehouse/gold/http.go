package gold

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
)

// maxRequestBytes is the size of the largest request, in bytes.
const maxRequestBytes = 4 << 10

// Request is the body of POST /v1/gold: one model to build, or the undeclared ones to take away.
type Request struct {
	Model string `json:"model"`
	Options
	Prune bool `json:"prune"`
}

// Pruned is the answer to a Request with Prune.
type Pruned struct {
	Gone []string `json:"gone"`
}

// Handler serves GET /v1/gold (a list of Status) and POST /v1/gold (a Request, answered with an Outcome when it is done, or with Pruned). An error is
// {"error": "…"} with 400 (wrong), 404 (no such model), 409 (another build is at work) or 500. The body must be application/json, which no page of
// another site can send unasked. The logger gets what is the server's own trouble.
func Handler(r *Runner, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/gold", func(w http.ResponseWriter, req *http.Request) {
		all, err := r.Status(req.Context())
		respond(w, log, all, err)
	})
	mux.HandleFunc("POST /v1/gold", func(w http.ResponseWriter, req *http.Request) {
		ask, err := readRequest(w, req)
		switch {
		case err != nil:
			respond(w, log, nil, err)
		case ask.Prune:
			gone, err := r.Prune(req.Context())
			respond(w, log, Pruned{gone}, err)
		default:
			out, err := r.Build(req.Context(), ask.Model, ask.Options)
			respond(w, log, out, err)
		}
	})
	return mux
}

// requestError is what is wrong with a request.
type requestError struct {
	error
	status int
}

func readRequest(w http.ResponseWriter, req *http.Request) (Request, error) {
	var ask Request
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return ask, requestError{errors.New("send Content-Type: application/json"), http.StatusUnsupportedMediaType}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxRequestBytes))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		return ask, requestError{fmt.Errorf("the request is not as expected: %w", err), http.StatusBadRequest}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ask, requestError{errors.New("the request goes on after its end"), http.StatusBadRequest}
	}
	return ask, nil
}

func respond(w http.ResponseWriter, log *slog.Logger, body any, err error) {
	status := http.StatusOK
	if err != nil {
		var wrong requestError
		switch {
		case errors.As(err, &wrong):
			status = wrong.status
		case errors.Is(err, ErrNoModel):
			status = http.StatusNotFound
		case errors.Is(err, ErrBusy):
			status = http.StatusConflict
		default:
			log.Error("gold", "err", err)
			status, err = http.StatusInternalServerError, errors.New("the warehouse could not do it; its log says why")
		}
		body = map[string]string{"error": err.Error()}
	}
	text, err := json.Marshal(body)
	if err != nil {
		log.Error("write an answer of gold", "err", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer could not be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(append(text, '\n')); err != nil {
		log.Debug("the client of gold has gone", "err", err)
	}
}
