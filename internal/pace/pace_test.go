package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkIsKeptToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for done := int64(50); done <= 500; done += 50 {
			if err := Keep(t.Context(), began, done, 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("500 at 100 a second took %v", took)
		}
		if err := Keep(t.Context(), began, 1e9, 0); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("no rate: %v after %v", err, time.Since(began))
		}
	})
}

func TestNobodyWaitsForAPaceThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range map[string]error{"sleep": Sleep(ctx, time.Hour), "at a rate": Keep(ctx, time.Now(), 1e9, 1), "without one": Keep(ctx, time.Now(), 1, 0)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
