package relay

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/internal/conf"
)

// Verifies says how often the relay that leads compares the outbox with its topics.
type Verifies struct {
	// Every is how often. Default: never by itself.
	Every time.Duration `yaml:"every"`
	// Sample is the share of keys that are looked at each time, others every time: 1/16. Default: all.
	Sample string `yaml:"sample"`
}

func (v Verifies) validate() error {
	if v == (Verifies{}) {
		return nil
	}
	if v.Every <= 0 {
		return wrong("verify.every", "is missing or below 0: how often, such as 1h")
	}
	if _, err := conf.ParseShare(v.Sample); err != nil {
		return wrong("verify.sample", "%v", err)
	}
	return nil
}

// verifier compares the outbox with its topics now and then, while this relay leads. It has connections of its own, and nothing waits
// for it.
type verifier struct {
	r    *Relay
	end  context.CancelFunc
	done sync.WaitGroup
}

// verifies starts a verifier; stop ends it and waits.
func (r *Relay) verifies(ctx context.Context) *verifier {
	ctx, cancel := context.WithCancel(ctx)
	v := &verifier{r: r, end: cancel}
	if r.cfg.Verify.Every > 0 {
		v.done.Go(func() { v.run(ctx) })
	}
	return v
}

func (v *verifier) stop() {
	v.end()
	v.done.Wait()
}

func (v *verifier) run(ctx context.Context) {
	policy := v.r.cfg.Verify
	sample, _ := conf.ParseShare(policy.Sample) // it was validated
	for turn := uint64(time.Now().Unix()); sleep(ctx, policy.Every) == nil; turn++ {
		found, err := Verify(ctx, v.r.cfg, VerifyOptions{Sample: sample, Turn: turn})
		if ctx.Err() != nil {
			return
		}
		v.tell(found, err)
	}
}

func (v *verifier) tell(found *Verified, err error) {
	log := v.r.cfg.Logger
	if err != nil {
		log.Warn("the outbox could not be compared with its topics; it is tried again", "in", v.r.cfg.Verify.Every, "err", err)
		return
	}
	v.r.status.metrics.verified.done(found)
	if found.Differences == 0 {
		log.Info("verified: the topics hold what the outbox says", "rows", found.Rows, "sample", found.Sample, "took", found.Took)
		return
	}
	args := []any{"differences", found.Differences, "sample", found.Sample}
	if len(found.Events) > 0 {
		e := &found.Events[0]
		args = append(args, "first", string(e.Kind), "topic", e.Topic, "key", e.Key, "event_id", e.EventID)
	}
	log.Error("the outbox differs from its topics: millrace verify --outbox "+v.r.cfg.Outbox+" says where", args...)
}

// verifyMetrics tell of the last comparison.
type verifyMetrics struct {
	differences, timestamp, duration prometheus.Gauge
}

func newVerifyMetrics(gauge func(name, help string) prometheus.Gauge) verifyMetrics {
	return verifyMetrics{
		differences: gauge("verify_differences", "Events that the last comparison of the outbox with its topics found to differ."),
		timestamp:   gauge("verify_timestamp_seconds", "When the last comparison began, in Unix time; 0 before the first."),
		duration:    gauge("verify_duration_seconds", "How long the last comparison took."),
	}
}

func (m verifyMetrics) done(v *Verified) {
	m.differences.Set(float64(v.Differences))
	m.timestamp.Set(float64(v.At.UnixNano()) / 1e9)
	m.duration.Set(v.Took.Seconds())
}
