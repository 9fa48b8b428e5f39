package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/services/internal/ops"
)

// part is a role whose end the test decides.
type part struct{ end chan error }

func newPart() part { return part{end: make(chan error, 1)} }

func (p part) Run(ctx context.Context) error {
	select {
	case err := <-p.end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (part) Ready() error { return nil }
func (part) Status() any  { return nil }

func startAll(t *testing.T, log io.Writer, roles ...named) (url string, stop func(), done chan error) {
	t.Helper()
	server, err := ops.Listen("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done = make(chan error, 1)
	go func() { done <- runAll(ctx, server, slog.New(slog.NewTextHandler(log, nil)), roles) }()
	return "http://" + server.Addr(), cancel, done
}

// signalWriter tells when something was written.
type signalWriter chan string

func (s signalWriter) Write(b []byte) (int, error) { s <- string(b); return len(b), nil }

// A full disk below one sink stops neither the relay nor the other sinks, and is seen from outside.
func TestOneFailedRoleLeavesTheOthers(t *testing.T) {
	lines := make(signalWriter, 4)
	a, b := newPart(), newPart()
	url, stop, done := startAll(t, lines, named{name: "sink a", runner: a}, named{name: "relay b", runner: b})

	a.end <- errors.New("no space left on device")
	if line := <-lines; !strings.Contains(line, `level=ERROR msg="role stopped" role="sink a" left=1 err="no space left on device"`) {
		t.Errorf("log: %s", line)
	}
	code, text := get(t, url+"/readyz")
	for code != http.StatusServiceUnavailable { // the line is written just before
		code, text = get(t, url+"/readyz")
	}
	if text != "relay b: ok\nsink a: no space left on device\n" {
		t.Errorf("%d %s", code, text)
	}
	stop()
	if err := <-done; err == nil || err.Error() != "sink a: no space left on device" {
		t.Errorf("the end tells of the failure: %v", err)
	}
}

func TestTheProcessEndsWithItsLastRole(t *testing.T) {
	a, b := newPart(), newPart()
	_, _, done := startAll(t, io.Discard, named{name: "sink a", runner: a}, named{name: "relay b", runner: b})
	a.end <- errors.New("first")
	b.end <- nil // a role that ends unasked has failed as well
	if err := <-done; err == nil || err.Error() != "sink a: first" && err.Error() != "relay b: ended by itself" {
		t.Errorf("%v", err)
	}
}

// A role that fails while the next is being started does not end the process.
func TestARoleThatFailsAtOnceIsNotTheLast(t *testing.T) {
	lines := make(signalWriter, 4)
	a, b := newPart(), newPart()
	a.end <- errors.New("at once")
	_, stop, done := startAll(t, lines, named{name: "sink a", runner: a}, named{name: "relay b", runner: b})
	if line := <-lines; !strings.Contains(line, "left=1") {
		t.Errorf("log: %s", line)
	}
	select {
	case err := <-done:
		t.Fatalf("ended: %v", err)
	default:
	}
	stop()
	<-done
}

func TestStoppingIsNoFailure(t *testing.T) {
	_, stop, done := startAll(t, io.Discard, named{name: "sink a", runner: newPart()}, named{name: "relay b", runner: newPart()})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}
