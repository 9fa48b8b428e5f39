package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// A sink that is away when its partitions come is waited for.
func TestSinkAwayAtClaim(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 3)
	r.fill(100, 10)
	log := &logged{}
	cfg := r.config()
	cfg.Logger = log.logger()
	var away atomic.Bool
	away.Store(true)
	f := r.fold()
	s := &script{
		claim: func(ctx context.Context, tp consumers.TopicPartition) (int64, error) {
			if away.Load() {
				return 0, errors.New("connection refused")
			}
			return f.Claim(ctx, tp)
		},
		process: f.Process,
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := start(t, cfg, s)
	eventually(t, "the claim in Health", func() error {
		if err := c.Health(); err == nil || !strings.Contains(err.Error(), "waiting for claim") || s.tried() < 3 {
			return fmt.Errorf("health %v", err)
		}
		return nil
	})
	away.Store(false)
	r.caughtUp()
	r.wantSums()
	if n := log.count("waiting for claim"); n != 2 { // it begins, it ends
		t.Errorf("%d lines:\n%s", n, log)
	}
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
}

// tried is the number of claims, those that failed included.
func (s *script) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

// Stopping does not wait for a sink that is away.
func TestStopWhileClaiming(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 3)
	s := &script{claim: func(context.Context, consumers.TopicPartition) (int64, error) {
		return 0, errors.New("connection refused")
	}}
	c := start(t, r.config(), s)
	eventually(t, "a claim", func() error {
		if s.tried() == 0 {
			return errors.New("none")
		}
		return nil
	})
	began := time.Now()
	if err := c.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// Kafka that is away is waited for: one line a change of state, ready again without a restart, nothing lost.
func TestKafkaAway(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		wire, log := &cable{}, &logged{}
		cfg := r.config()
		cfg.Kafka, cfg.Logger = append([]kgo.Opt{kgo.Dialer(wire.dial)}, cfg.Kafka...), log.logger()
		r.fill(100, 10)
		c := start(t, cfg, r.fold())
		r.caughtUp()
		for range 2 {
			eventually(t, "health", c.Health)
			wire.cut()
			r.fill(100, 10)
			eventually(t, "kafka in Health", func() error {
				if err := c.Health(); err == nil || !strings.Contains(err.Error(), "waiting for kafka") {
					return fmt.Errorf("health %v", err)
				}
				return nil
			})
			wire.mend()
			r.caughtUp()
			r.wantSums()
		}
		eventually(t, "health", c.Health)
		if n := log.count(`msg="waiting for kafka"`); n != 2 {
			t.Errorf("%d lines for two outages:\n%s", n, log)
		}
	})
}

// One missing topic does not keep the others from being followed, nor from being measured.
func TestOneTopicIsMissing(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 2)
	r.fill(100, 10)
	log := &logged{}
	cfg := r.config()
	cfg.Topics, cfg.Logger = append(cfg.Topics, "missing"), log.logger()
	c := start(t, cfg, r.fold())
	r.caughtUp()
	eventually(t, "status", func() error {
		s := c.Status()
		if len(s.Partitions) != 2 || s.Partitions[0].End <= 0 || s.Lag != 0 || !strings.Contains(s.Problem, "missing") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if n := log.count("waiting for"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
}
