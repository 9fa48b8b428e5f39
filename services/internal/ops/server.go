// Package ops is what every role shows an operator: metrics, health and status over HTTP, and a group that stops together.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stopTimeout is how long requests under way may take to finish when the server stops.
const stopTimeout = 5 * time.Second

// Role is one part of a process as an operator sees it.
type Role struct {
	// Name names the role, for example "relay shop" or "sink search".
	Name string
	// Ready returns what keeps the role from doing its work; nil when nothing does.
	Ready func() error
	// Note says what a person who looks at a role that is ready should know, such as that it is paused; nil or empty for nothing.
	Note func() string
	// Status returns a value that is shown as JSON under /v1/status.
	Status func() any
}

// Server serves /metrics, /livez, /readyz, /v1/status and what is mounted beside them.
type Server struct {
	// Metrics is where the roles of this process register their metrics.
	Metrics *prometheus.Registry

	logger *slog.Logger
	ln     net.Listener
	mux    *http.ServeMux

	mu sync.Mutex // guards the following
	// roles by name
	roles map[string]Role
}

// Listen opens a server on the given address, host:port; port 0 picks a free one. It does not serve before Run.
func Listen(address string, logger *slog.Logger) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest repeats the address
		}
		return nil, fmt.Errorf("listen for HTTP on %s: %w (choose another address with --listen or http.listen)", address, err)
	}
	s := &Server{Metrics: prometheus.NewRegistry(), logger: logger, ln: ln, mux: http.NewServeMux(), roles: map[string]Role{}}
	s.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{Registry: s.Metrics}))
	s.mux.HandleFunc("GET /livez", s.livez)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /v1/status", s.status)
	return s, nil
}

// Addr is the address the server listens on.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Handle mounts a handler; the pattern is that of http.ServeMux.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Add shows a role from now on; a role of the same name is replaced.
func (s *Server) Add(r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[r.Name] = r
}

// Close gives the address back, for a server that does not come to Run.
func (s *Server) Close() error { return s.ln.Close() }

// Run serves until ctx ends, then lets requests under way finish.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler: s.guard(s.mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(s.ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve HTTP on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-done
	return err
}

// guard keeps web pages out of a server on loopback. A page's own name can be made to mean 127.0.0.1 (DNS rebinding), and then a browser
// on this machine lets it read every answer; the Host header still tells the name. A server that listens to others answers to any
// name: who may reach it is up to the network.
func (s *Server) guard(next http.Handler) http.Handler {
	if tcp, ok := s.ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			http.Error(w, "this server listens on loopback and answers to localhost and to addresses only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) sorted() []Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Role, 0, len(s.roles))
	for _, r := range s.roles {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// readyz answers 200 when every role is ready, else 503; either way with a line a role.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	code, text := http.StatusOK, ""
	for _, r := range s.sorted() {
		line, ready := r.line()
		if !ready {
			code = http.StatusServiceUnavailable
		}
		text += line
	}
	answer(w, code, text)
}

// livez answers 200 for as long as the process serves: what a role waits for, or has stopped for, is not mended by starting the
// process again. It says in words what that is.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	text := "ok\n"
	for _, r := range s.sorted() {
		line, _ := r.line()
		text += line
	}
	answer(w, http.StatusOK, text)
}

// line says how a role is, in one line.
func (r Role) line() (text string, ready bool) {
	if err := r.Ready(); err != nil {
		return fmt.Sprintf("%s: %s\n", r.Name, strings.Join(strings.Fields(err.Error()), " ")), false
	}
	if r.Note != nil {
		if note := r.Note(); note != "" {
			return fmt.Sprintf("%s: ok (%s)\n", r.Name, note), true
		}
	}
	return r.Name + ": ok\n", true
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	out := map[string]any{}
	for _, r := range s.sorted() {
		if r.Status != nil {
			out[r.Name] = r.Status()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.logger.Warn("status was not written", "err", err)
	}
}
