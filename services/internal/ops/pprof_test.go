package ops

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

func TestProfilesAreServedOnLoopbackOnly(t *testing.T) {
	open, err := Listen("0.0.0.0:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.ServePprof(); !errors.Is(err, ErrPprofNotLoopback) {
		t.Errorf("a server that others can reach: %v", err)
	}

	for _, asked := range []bool{false, true} {
		s, err := Listen("127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		want := 404 // not unless it is asked for
		if asked {
			want = 200
			if err := s.ServePprof(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		if code, _ := get(t, "http://"+s.Addr()+"/debug/pprof/allocs"); code != want {
			t.Errorf("allocs: %d, not %d", code, want)
		}
		if code, _ := get(t, "http://"+s.Addr()+"/debug/pprof/cmdline"); code != 404 {
			t.Errorf("the command line is shown: %d", code)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
