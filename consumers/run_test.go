package consumers_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Promise 4: exactly once in effect, over a restart, with aborted transactions in between.
func TestEachEventIsAppliedOnce(t *testing.T) {
	onBrokers(t, 3, func(t *testing.T, r *rig) {
		r.fill(3000, 50)
		first := start(t, r.config(), r.fold())
		r.caughtUp()
		r.wantSums()
		if err := first.end(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		r.fill(1000, 50)
		start(t, r.config(), r.fold())
		r.caughtUp()
		r.wantSums()
		if n := len(r.sink.Events(r.topic)); n != 4000 {
			t.Errorf("%d events kept, want 4000", n)
		}
	})
}

// A consumer that has caught up has a lag of exactly 0, in its status and in the group, although markers stand at the end.
func TestLagIsZeroWhenCaughtUp(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		r.fill(100, 10)
		r.produce(false, r.added("key-0", 1), r.added("key-1", 1), r.added("key-2", 1)) // The end is an aborted transaction.
		reg := prometheus.NewPedanticRegistry()
		cfg := r.config()
		cfg.Registerer = reg
		c := start(t, cfg, r.fold())
		r.caughtUp()
		eventually(t, "status", func() error {
			s := c.Status()
			if s.Problem != "" || s.Lag != 0 || len(s.Partitions) != 2 {
				return fmt.Errorf("%+v", s)
			}
			for _, p := range s.Partitions {
				if p.Position != p.End || p.ValidThrough.IsZero() || p.ValidThrough.Before(p.LastEvent) {
					return fmt.Errorf("%+v", p)
				}
			}
			return nil
		})
		eventually(t, "the group's offsets", func() error {
			lags, err := r.adm.Lag(t.Context(), c.Status().Group)
			if err != nil {
				return err
			}
			total := lags[c.Status().Group].Lag.Total()
			if total != 0 {
				return fmt.Errorf("lag %d", total)
			}
			return nil
		})
		if n, err := testutil.GatherAndCount(reg, "millrace_consumer_lag"); err != nil || n != 2 {
			t.Errorf("%d series of lag, %v", n, err)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
	})
}

func TestRunWorksOnce(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	c := start(t, r.config(), r.fold())
	eventually(t, "health", c.Health)
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run worked twice")
	}
	if err := c.Health(); err == nil {
		t.Error("a stopped consumer is healthy")
	}
}

// A topic that does not exist yet is waited for, and said to be missing.
func TestTopicCreatedLater(t *testing.T) {
	noLeaks(t)
	r := fakeRig(t, 1)
	log := &logged{}
	cfg := r.config()
	r.topic, cfg.Topics, cfg.Logger = "later", []string{"later"}, log.logger()
	c := start(t, cfg, r.fold())
	eventually(t, "the missing topic in Health", func() error {
		if err := c.Health(); err == nil || log.count("waiting for topic") != 1 {
			return fmt.Errorf("health %v, log %s", err, log)
		}
		return nil
	})
	if err := r.fake.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	r.fill(10, 2)
	eventually(t, "health", c.Health)
	r.caughtUp()
	if err := c.end(); err != nil {
		t.Fatalf("Run: %v", err)
	}
}
