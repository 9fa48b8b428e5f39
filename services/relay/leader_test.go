package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/test/harness"
)

// deaf is a connection that hears nothing any more, not even that the other side has hung up, until somebody sets it a deadline.
type deaf struct {
	net.Conn
	yes  *atomic.Bool
	cut  chan struct{}
	once sync.Once
}

func (d *deaf) Read(p []byte) (int, error) {
	if !d.yes.Load() {
		return d.Conn.Read(p)
	}
	<-d.cut
	return 0, os.ErrDeadlineExceeded
}

func (d *deaf) SetDeadline(t time.Time) error {
	if d.yes.Load() && !t.IsZero() {
		d.once.Do(func() { close(d.cut) })
	}
	return d.Conn.SetDeadline(t)
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.cut) })
	return d.Conn.Close()
}

// leads takes the lock, asked for at the given time, over a connection that hears nothing from then on.
func leads(t *testing.T, at time.Time) *leadership {
	t.Helper()
	cfg, err := pgx.ParseConfig(harness.Postgres(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	var quiet atomic.Bool
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &deaf{Conn: conn, yes: &quiet, cut: make(chan struct{})}, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	leader, ok, err := store.TryLead(t.Context(), conn, "")
	if err != nil || !ok {
		t.Fatalf("does not lead: %v", err)
	}
	quiet.Store(true)
	lead := holdLead(t.Context(), conn, leader, at)
	t.Cleanup(lead.end)
	return lead
}

// A leader whose touch is not answered gives up by itself, and does not wait for the network to say that it is broken.
func TestALeaderThatHearsNothingGivesUp(t *testing.T) {
	t.Parallel()
	lead := leads(t, time.Now())
	select {
	case <-lead.ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("it still believes to lead")
	}
	if cause := context.Cause(lead.ctx); errors.Is(cause, errResigned) {
		t.Errorf("it gave up because of: %v", cause)
	}
}

// Whoever has slept for longer than the server keeps a silent leader's lock knows that it is gone before anybody says so.
func TestALeaderThatSleptKnowsThatItLostTheLock(t *testing.T) {
	t.Parallel()
	if err := leads(t, time.Now().Add(-store.LeaderTimeout)).holds(); err == nil {
		t.Error("it holds on to a lock that somebody else may have")
	}
}
