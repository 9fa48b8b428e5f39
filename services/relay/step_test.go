package relay_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// A start that waits says what for: status, readiness and, after a while, the log.
func TestAStartNamesTheStepItWaitsIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	stranger := r.client(kgo.TransactionalID(r.name+"-stranger"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := stranger.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := stranger.ProduceSync(t.Context(), &kgo.Record{Topic: relay.CursorTopic(r.name), Key: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	run := r.run(func(c *relay.Config) { c.Logger = log.logger() })
	want := "starting: waiting for open transactions on " + relay.CursorTopic(r.name)
	run.until("the step to show", func(s relay.Status) bool { return strings.HasPrefix(s.Reason, want) })
	eventually(t, "readiness and the log to say it", func() error {
		if err := run.Ready(); err == nil || !strings.HasPrefix(err.Error(), want) {
			return fmt.Errorf("ready: %v", err)
		}
		if !strings.Contains(log.String(), "waiting for open transactions") {
			return fmt.Errorf("the log is %q", log)
		}
		return nil
	})
	if err := stranger.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	r.emit("k", 2)
	run.untilSeq(2)
	if s := run.Status(); s.Reason != "" {
		t.Errorf("still %q", s.Reason)
	}
}

// syncBuffer is a log to look at.
type syncBuffer struct {
	mu   sync.Mutex // guards the following
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *syncBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
