package ops

import (
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
)

// ErrPprofNotLoopback is returned by ServePprof of a server that others can reach.
var ErrPprofNotLoopback = errors.New("profiles are served on loopback only: they show the program's memory and slow it down; choose a loopback address with http.listen or switch http.pprof off")

// ServePprof serves Go's profiles below /debug/pprof/. Only a server on a loopback address does; any other returns
// ErrPprofNotLoopback. Call it before Run.
func (s *Server) ServePprof() error {
	if tcp, ok := s.ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return ErrPprofNotLoopback
	}
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // flags can hold passwords
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return nil
}
