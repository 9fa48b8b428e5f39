package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
)

// What an interrupted replay says is what --from takes, and means the same: a time goes on to leave out what occurred before it.
func TestAReplaySaysHowToGoOn(t *testing.T) {
	for _, from := range []string{"4294967401", "2026-01-31T10:00:00Z", "2026-01-31T10:00:00.25+02:00", "start"} {
		var opts relay.ReplayOptions
		var err error
		if opts.FromID, opts.From, err = beginning(from); err != nil {
			t.Fatal(err)
		}
		did := relay.Replayed{Next: 4294967500}
		for _, why := range []error{context.Canceled, errors.New("write to audit: no broker answers")} {
			said := replayError(did, goOn(&opts, did.Next), why).Error()
			_, again, told := strings.Cut(said, "go on with --from ")
			if !told {
				t.Fatalf("%s: %q", from, said)
			}
			id, at, err := beginning(again)
			if err != nil || id != did.Next || !at.Equal(opts.From) {
				t.Errorf("--from %s goes on with --from %s: row %d, time %s, %v", from, again, id, at.Format(time.RFC3339Nano), err)
			}
		}
	}
	for _, wrong := range []string{",", "5,6", "2026-01-31T10:00:00Z,", "2026-01-31T10:00:00Z,0", "start,5", "2026-01-31T10:00:00Z,x", "yesterday"} {
		var usage usageError
		if _, _, err := beginning(wrong); !errors.As(err, &usage) {
			t.Errorf("--from %q: %v", wrong, err)
		}
	}
}
