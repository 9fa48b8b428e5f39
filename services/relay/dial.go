package relay

import (
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
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
