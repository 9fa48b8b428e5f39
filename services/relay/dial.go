package relay

import (
	"bufio"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// unheard is how long what was sent to Postgres may stay unacknowledged by its kernel before the connection counts as lost, where
	// the system can be told so.
	unheard = 30 * time.Second
	// A connection on which an answer is waited for is asked after quietFor, then every quietAgain, at most quietTimes in vain.
	quietFor   = 15 * time.Second
	quietAgain = 5 * time.Second
	quietTimes = 3
)

// dialPostgres makes the system notice, by itself, connections whose packets are lost. It does not see through a proxy or a load
// balancer on the way, which answers for itself: see patient. A Unix socket has none of this, and needs none.
func dialPostgres(cfg *pgx.ConnConfig) {
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: quietFor, Interval: quietAgain, Count: quietTimes},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return nil
			}
			return limitUnheard(raw)
		},
	}
	cfg.DialFunc = d.DialContext
}

// rolePoll is the connection that pages are read on.
const rolePoll = "poll"

// pollBuffer is how much a poll reads at once. Postgres sends 8 KiB at a time, some twenty events, and the library reads as much: when a
// page comes, each side is then woken for each. With room for more it wakes when it has been overtaken, and both need less of a core.
const pollBuffer = 256 << 10

// readMuch makes a connection read as much at once as there is.
func readMuch(cfg *pgx.ConnConfig) {
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, pollBuffer), w)
	}
}
