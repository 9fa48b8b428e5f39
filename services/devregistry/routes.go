package devregistry

import (
	"encoding/json"
	"errors"
	"net/http"
)

const (
	contentType  = "application/vnd.schemaregistry.v1+json"
	maxBodyBytes = 4 << 20
)

// operation answers a request with a value to be written as JSON, or with an error.
type operation func(*http.Request) (any, error)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, op := range map[string]operation{
		"GET /{$}":                                                  func(*http.Request) (any, error) { return struct{}{}, nil },
		"GET /subjects":                                             s.subjects,
		"POST /subjects/{subject}":                                  s.lookup,
		"DELETE /subjects/{subject}":                                s.deleteSubject,
		"GET /subjects/{subject}/versions":                          s.versions,
		"POST /subjects/{subject}/versions":                         s.register,
		"GET /subjects/{subject}/versions/{version}":                s.version,
		"DELETE /subjects/{subject}/versions/{version}":             s.deleteVersion,
		"GET /subjects/{subject}/versions/{version}/schema":         s.versionText,
		"GET /schemas/types":                                        func(*http.Request) (any, error) { return []string{"AVRO"}, nil },
		"GET /schemas/ids/{id}":                                     s.schema,
		"GET /schemas/ids/{id}/schema":                              s.schemaText,
		"GET /schemas/ids/{id}/versions":                            s.schemaVersions,
		"GET /schemas/ids/{id}/subjects":                            s.schemaSubjects,
		"POST /compatibility/subjects/{subject}/versions":           s.compatible,
		"POST /compatibility/subjects/{subject}/versions/{version}": s.compatible,
		"GET /config":                                               s.config,
		"PUT /config":                                               s.setConfig,
		"GET /config/{subject}":                                     s.config,
		"PUT /config/{subject}":                                     s.setConfig,
		"DELETE /config/{subject}":                                  s.deleteConfig,
		"GET /mode":                                                 s.mode,
		"GET /mode/{subject}":                                       s.mode,
		"PUT /mode":                                                 func(*http.Request) (any, error) { return nil, noModeChange() },
		"PUT /mode/{subject}":                                       func(*http.Request) (any, error) { return nil, noModeChange() },
	} {
		mux.HandleFunc(pattern, s.answer(op))
	}
	return mux
}

func (s *Server) answer(op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		v, err := op(r)
		status := http.StatusOK
		if err != nil {
			known := &apiError{status: http.StatusInternalServerError, Code: 50001, Message: "Error in the backend"}
			if !errors.As(err, &known) {
				s.log.Error("schema registry request", "path", r.URL.Path, "err", err)
			}
			v, status = known, known.status
		}
		text, err := json.Marshal(v)
		if err != nil {
			s.log.Error("schema registry answer", "path", r.URL.Path, "err", err)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		// A client that has gone is not this server's trouble.
		_, _ = w.Write(text)
	}
}
