package relay_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/services/relay"
)

// lossy makes connections that break after a request was sent and before its answer is read, now and then: the broker has
// acted, and the relay cannot know.
type lossy struct {
	mu  sync.Mutex // guards the following
	rnd *rand.Rand
	// oneIn is how rarely each kind of request loses its answer.
	oneIn map[int16]int
	left  int // answers yet to lose
	lost  map[int16]int
}

var errLost = errors.New("the answer is lost")

func (l *lossy) dial(ctx context.Context, network, host string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	return &lossyConn{Conn: c, l: l}, nil
}

// loses decides over a request that was just sent.
func (l *lossy) loses(request []byte) bool {
	if len(request) < 6 {
		return false
	}
	key := int16(binary.BigEndian.Uint16(request[4:]))
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.oneIn[key]
	if n == 0 || l.left == 0 || l.rnd.IntN(n) != 0 {
		return false
	}
	l.left--
	l.lost[key]++
	return true
}

type lossyConn struct {
	net.Conn
	l      *lossy
	broken atomic.Bool
}

func (c *lossyConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil && c.l.loses(p) {
		c.broken.Store(true)
	}
	return n, err
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() {
		c.Conn.Close()
		return 0, errLost
	}
	return n, err
}

// The outcome of a commit that nobody answered is never guessed at: whether it took place or not, each event is there once.
func TestPromise3AnUnknownOutcomeIsNeverGuessed(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		commit, produce := (&kmsg.EndTxnRequest{}).Key(), (&kmsg.ProduceRequest{}).Key()
		fence, join := (&kmsg.InitProducerIDRequest{}).Key(), (&kmsg.AddPartitionsToTxnRequest{}).Key()
		l := &lossy{
			rnd: rand.New(rand.NewPCG(4, 4)), left: 40, lost: map[int16]int{},
			oneIn: map[int16]int{commit: 3, produce: 12, fence: 6, join: 12},
		}
		run := r.run(func(c *relay.Config) {
			c.PageSize = 15
			c.Kafka = append(c.Kafka, kgo.Dialer(l.dial))
		})
		r.write(load{writers: 6, transactions: 120, keys: 10, seed: 4, pause: 10 * time.Millisecond})
		run.untilSeq(r.rows())
		l.mu.Lock()
		t.Logf("answers lost, by kind of request: %v; restarts: %d", l.lost, run.Status().Restarts)
		if l.lost[commit] == 0 {
			t.Error("no commit lost its answer")
		}
		l.mu.Unlock()
		if err := run.stop(); err != nil {
			t.Error(err)
		}
		r.checkPublished()
	})
}
