package verify

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Line is one line of an answer: how far the run is, and at the end its result, or why there is none.
type Line struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// maxQuestion bounds a request's body, in bytes.
const maxQuestion = 64 << 10

// ServeHTTP answers POST with lines of JSON (Line); the body is Options, or empty. The run ends when the asker goes away.
func (k *Keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "verify with POST")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it may take longer than a request
	var opts Options
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&opts); err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the request is not as expected: "+err.Error())
		return
	}
	s := &stream{w: w, enc: json.NewEncoder(w)}
	opts.Progress = func(p Progress) { s.send(Line{Progress: &p}) }
	result, err := k.Verify(r.Context(), opts)
	switch {
	case err == nil:
		s.send(Line{Result: result})
	case s.begun():
		s.send(Line{Error: err.Error()})
	case errors.Is(err, ErrBusy):
		refuse(w, http.StatusConflict, err.Error())
	case errors.Is(err, ErrCannot), errors.Is(err, ErrNoEntity):
		refuse(w, http.StatusBadRequest, err.Error())
	default:
		refuse(w, http.StatusServiceUnavailable, err.Error())
	}
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Line{Error: why})
}

// stream writes lines as they come.
type stream struct {
	w   http.ResponseWriter
	enc *json.Encoder

	mu   sync.Mutex // guards the following
	sent bool
}

func (s *stream) send(l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sent {
		s.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	s.sent = true
	_ = s.enc.Encode(l)
	_ = http.NewResponseController(s.w).Flush()
}

func (s *stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}
