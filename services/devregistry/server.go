package devregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 5 * time.Second
)

// Config says where the registry listens and what it keeps.
type Config struct {
	// Listen is the address to listen on. Default "127.0.0.1:0": a free port, from this machine only.
	Listen string
	// File keeps the schemas over a restart. Default: nothing is kept.
	File string
	// Compatibility is the level of subjects that have none of their own. Default Backward. What File holds goes first.
	Compatibility string
	// Logger takes the log. Default slog.Default().
	Logger *slog.Logger
}

// WithDefaults returns a copy with the defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Compatibility == "" {
		c.Compatibility = Backward
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if !slices.Contains(levels, c.Compatibility) {
		return fmt.Errorf("registry compatibility: %q is none of %v", c.Compatibility, levels)
	}
	return nil
}

// Server is the registry. Its URL is good as soon as New returns; it answers once Run has begun.
type Server struct {
	log      *slog.Logger
	store    *store
	listener net.Listener
	handler  http.Handler
}

// New reads the file, if there is one, and takes the address. Either Run or Close gives it back.
func New(cfg Config) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	st, err := open(cfg.File, cfg.Compatibility)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("registry listen: %w", err)
	}
	s := &Server{log: cfg.Logger, store: st, listener: listener}
	s.handler = s.routes()
	return s, nil
}

// URL is the base URL to give to clients.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Handler answers the registry's requests, for those who serve it themselves.
func (s *Server) Handler() http.Handler { return s.handler }

// Close gives the address back without Run.
func (s *Server) Close() error { return s.listener.Close() }

// Run answers requests until ctx ends, then lets those under way finish for up to 5 s.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.log.Info("schema registry started", "url", s.URL())
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(bound)
	})
	err := server.Serve(s.listener)
	if stop() {
		return fmt.Errorf("schema registry: %w", err)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("schema registry: %w", errors.Join(err, <-stopped))
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("schema registry: stop: %w", err)
	}
	s.log.Info("schema registry stopped")
	return nil
}
