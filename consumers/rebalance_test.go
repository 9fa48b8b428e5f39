package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// cable is a network that can be cut.
type cable struct {
	mu    sync.Mutex // guards the following
	isCut bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, host string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close() // what is cut is cut
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// freezing is a sink whose commits can be held up, as those of a frozen process are.
type freezing struct {
	fold.Sink
	claims  atomic.Int64
	refused atomic.Int64

	mu     sync.Mutex // guards the following
	frozen chan struct{}
	held   atomic.Int64
}

func (s *freezing) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = make(chan struct{})
}

func (s *freezing) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.frozen)
	s.frozen = nil
}

func (s *freezing) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	s.claims.Add(1)
	return s.Sink.Claim(ctx, tp)
}

// Commit does not look at its context: a stopped process does not either.
func (s *freezing) Commit(_ context.Context, c fold.Commit) error {
	s.mu.Lock()
	frozen := s.frozen
	s.mu.Unlock()
	if frozen != nil {
		s.held.Add(1)
		<-frozen
	}
	err := s.Sink.Commit(context.Background(), c)
	if errors.Is(err, consumers.ErrFenced) {
		s.refused.Add(1)
	}
	return err
}

// owning waits until a consumer owns so many partitions.
func owning(t *testing.T, c *running, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d partitions", n), func() error {
		if got := len(c.Status().Partitions); got != n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// Promise 4: rebalance and a slow zombie. A second member comes and takes its share; the first is frozen in mid-commit and cut off, the group gives
// its partitions away, and when it wakes up it changes nothing and takes nothing back until it is a member again.
func TestRebalanceAndZombie(t *testing.T) {
	onBrokers(t, 4, func(t *testing.T, r *rig) {
		wire, slow := &cable{}, &freezing{Sink: r.sink}
		cfg := r.config()
		cfg.SessionTimeout = 6 * time.Second
		cutoff := cfg
		cutoff.Kafka = append([]kgo.Opt{kgo.Dialer(wire.dial)}, cfg.Kafka...)
		r.fill(1000, 40)
		a := start(t, cutoff, r.foldInto(slow))
		owning(t, a, 4)
		b := start(t, cfg, r.fold())
		r.fill(1000, 40)
		owning(t, b, 2)
		owning(t, a, 2)
		r.caughtUp()

		slow.freeze()
		r.fill(1000, 40)
		eventually(t, "commits to be held up", func() error {
			if n := slow.held.Load(); n < 2 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		wire.cut()
		owning(t, b, 4)
		r.caughtUp()
		claims := slow.claims.Load()
		slow.thaw()
		eventually(t, "the zombie to be refused", func() error {
			if n := slow.refused.Load(); n == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		r.fill(500, 40)
		r.caughtUp()
		r.wantSums()
		if n := slow.claims.Load(); n != claims {
			t.Errorf("the zombie claimed %d times", n-claims)
		}

		wire.mend()
		owning(t, a, 2)
		r.fill(500, 40)
		r.caughtUp()
		r.wantSums()
		if err := b.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		owning(t, a, 4)
		r.fill(500, 40)
		r.caughtUp()
		r.wantSums()
	})
}

// Members come and go while events keep coming.
func TestMembersComeAndGo(t *testing.T) {
	onBrokers(t, 3, func(t *testing.T, r *rig) {
		cfg := r.config()
		var members []*running
		for range 3 {
			members = append(members, start(t, cfg, r.fold()))
			r.fill(300, 30)
		}
		for i := range 5 {
			if err := members[0].end(); err != nil {
				t.Errorf("Run %d: %v", i, err)
			}
			members = append(members[1:], start(t, cfg, r.fold()))
			r.fill(300, 30)
		}
		r.caughtUp()
		r.wantSums()
	})
}
