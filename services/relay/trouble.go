package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// troubles knows what the relay is waiting for. It logs changes, not attempts.
type troubles struct {
	logger *slog.Logger
	tell   func(part string, yes bool) // of changes

	mu    sync.Mutex // guards the following
	parts map[string]trouble
}

type trouble struct {
	err   error
	since time.Time
}

func newTroubles(logger *slog.Logger, tell func(part string, yes bool)) *troubles {
	return &troubles{logger: logger, tell: tell, parts: map[string]trouble{}}
}

// report returns what a part calls with its error, or with nil when it works again.
func (t *troubles) report(part string) func(error) {
	return func(err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		before, was := t.parts[part]
		switch {
		case err == nil && was:
			delete(t.parts, part)
			t.tell(part, false)
			t.logger.Info("works again", "part", part, "after", time.Since(before.since).Round(time.Millisecond))
		case err != nil && !was:
			t.parts[part] = trouble{err, time.Now()}
			t.tell(part, true)
			t.logger.Warn("in trouble, trying again until it works", "part", part, "err", err)
		case err != nil:
			t.parts[part] = trouble{err, before.since}
		}
	}
}

// forget drops what is no business of a relay that does not lead: another one works on it.
func (t *troubles) forget(parts ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, part := range parts {
		if _, was := t.parts[part]; was {
			delete(t.parts, part)
			t.tell(part, false)
		}
	}
}

// current returns what is wrong now, joined; nil if nothing is.
func (t *troubles) current() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []error
	for _, part := range troubleParts {
		if p, ok := t.parts[part]; ok {
			all = append(all, fmt.Errorf("%s, for %v: %w", part, time.Since(p.since).Round(time.Second), p.err))
		}
	}
	return errors.Join(all...)
}
