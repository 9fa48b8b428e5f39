package relay_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
)

// Promise 7: a topic may take no timestamps that are older than a day, or a minute ahead. Events of other times are published all the same,
// dated now, and say in ce_time when they occurred.
func TestPromise7ATopicThatTakesNoOldTimestamps(t *testing.T) {
	t.Parallel()
	r := realRig(t)
	for n, ago := range []string{"10 days", "1 hour", "-10 minutes"} {
		r.emit("k", int64(n+1))
		r.exec(`update outbox.event set occurred_at = now() - $2::text::interval where (body->>'n')::bigint = $1`, n+1, ago)
	}
	run := r.run(func(c *relay.Config) {
		c.Topics = map[string]relay.Topic{r.topic: {Partitions: 1, Configs: map[string]string{
			"message.timestamp.before.max.ms": "86400000", "message.timestamp.after.max.ms": "60000",
		}}}
	})
	run.untilSeq(3)
	if s := run.Status(); s.Restarts != 0 {
		t.Errorf("something was refused: %+v", s)
	}
	for i, rec := range r.committed(r.topic) {
		var said time.Time
		for _, h := range rec.Headers {
			if h.Key == "ce_time" {
				said, _ = time.Parse(time.RFC3339Nano, string(h.Value))
			}
		}
		if kept := rec.Timestamp.Equal(said.Truncate(time.Millisecond)); kept != (i == 1) || said.IsZero() {
			t.Errorf("record %d is dated %v and says %v", i, rec.Timestamp, said)
		}
	}
}
