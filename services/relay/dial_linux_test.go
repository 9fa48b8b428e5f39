package relay

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
)

// The system is told to notice a connection to Postgres whose packets are lost.
func TestALostConnectionIsNoticedByTheSystem(t *testing.T) {
	t.Parallel()
	r, err := New(goodConfig())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := r.pg.DialFunc(context.Background(), "tcp", harness.SilentPort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		name          string
		level, option int
		want          time.Duration
		unit          time.Duration
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, quietFor, time.Second},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, quietAgain, time.Second},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, quietTimes, 1},
		{"TCP_USER_TIMEOUT", syscall.IPPROTO_TCP, tcpUserTimeout, unheard, time.Millisecond},
	} {
		var got int
		var failed error
		err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), o.level, o.option) })
		if err != nil || failed != nil || time.Duration(got)*o.unit != o.want {
			t.Errorf("%s is %d: %v, %v; want %v", o.name, got, err, failed, o.want)
		}
	}
}

// A Unix socket is dialled as well.
func TestAUnixSocketHasNoSuchSettings(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg := &pgx.ConnConfig{}
	dialPostgres(cfg)
	conn, err := cfg.DialFunc(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
