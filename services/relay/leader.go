package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

const (
	// standbyPause is how often a standby tries to take the lock.
	standbyPause = 500 * time.Millisecond
	// touchEvery is how often a leader shows that it lives; touchTimeout is how long it waits for the answer. Together they
	// stay below store.LeaderTimeout.
	touchEvery   = time.Second
	touchTimeout = 1500 * time.Millisecond
	// connectTimeout bounds connecting to Postgres unless the connection string says otherwise.
	connectTimeout = 5 * time.Second
	// closeTimeout bounds saying goodbye to Postgres.
	closeTimeout = time.Second
)

// leadership is held until its context ends. It is for liveness; what keeps two relays from publishing the same event is
// the pair of transactional ids.
type leadership struct {
	ctx context.Context
	end func()
	// holds returns an error when another relay may have the lock. It knows before ctx ends: whoever wakes from a freeze has
	// lost the lock and not been told yet.
	holds func() error
}

// standBy returns when this relay leads. Its errors are ctx's, and those that no waiting mends.
func (r *Relay) standBy(ctx context.Context) (*leadership, error) {
	if r.lead != nil {
		return r.lead(ctx)
	}
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			closeConn(conn)
		}
	}()
	for attempt := 0; ; {
		pause := standbyPause
		asked := time.Now()
		leader, err := r.tryLead(ctx, &conn)
		if ctx.Err() != nil { // which is no trouble
			return nil, ctx.Err()
		}
		r.trouble.report("election")(err)
		switch {
		case leader != nil:
			held := conn
			conn = nil
			return holdLead(ctx, held, leader, asked), nil
		case mustStop(err):
			return nil, err
		case err != nil:
			pause = max(r.retry.pause(attempt), standbyPause)
			attempt++
		default:
			attempt = 0
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// tryLead tries once, on the connection at hand or a new one.
func (r *Relay) tryLead(ctx context.Context, conn **pgx.Conn) (*store.Leader, error) {
	if *conn == nil {
		var err error
		if *conn, err = r.dial(ctx, "lead"); err != nil {
			return nil, err
		}
		// Before the lock is taken, and anything is set: a pooler would keep it for whoever comes next.
		err = store.CheckDirect(ctx, *conn, func(ctx context.Context) (*pgx.Conn, error) { return r.dial(ctx, "lead") })
		if err == nil {
			err = liftTimeouts(ctx, *conn)
		}
		if err != nil {
			closeConn(*conn)
			*conn = nil
			return nil, err
		}
	}
	leader, ok, err := store.TryLead(ctx, *conn, r.cfg.Schema)
	if err != nil {
		closeConn(*conn)
		*conn = nil
		return nil, fmt.Errorf("try to lead: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return leader, nil
}

// holdLead touches the session every second until end is called or the lock is lost, which ends the context.
// The lock was had, or asked for, at the given time.
func holdLead(ctx context.Context, conn *pgx.Conn, leader *store.Leader, at time.Time) *leadership {
	var touched atomic.Pointer[time.Time]
	touched.Store(&at)
	lead, lose := context.WithCancelCause(ctx)
	var touching sync.WaitGroup
	touching.Go(func() {
		for sleep(lead, touchEvery) == nil {
			now := time.Now()
			touch, cancel := context.WithTimeout(lead, touchTimeout)
			err := leader.Touch(touch)
			cancel()
			if err != nil {
				lose(fmt.Errorf("the session that holds the lock: %w", err))
				return
			}
			touched.Store(&now)
		}
	})
	holds := func() error {
		if since := time.Since(*touched.Load()); since >= store.LeaderTimeout {
			return fmt.Errorf("the session that holds the lock was not touched for %v", since.Round(time.Millisecond))
		}
		return nil
	}
	return &leadership{ctx: lead, holds: holds, end: func() {
		lose(errResigned)
		touching.Wait()
		closeConn(conn) // which gives the lock back
	}}
}

var errResigned = errors.New("resigned")

// connect opens a connection on which no timeout of Postgres holds that was meant for applications.
func (r *Relay) connect(ctx context.Context, role string) (*pgx.Conn, error) {
	conn, err := r.dial(ctx, role)
	if err != nil {
		return nil, err
	}
	if err := liftTimeouts(ctx, conn); err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// liftTimeouts undoes what the role, the database or the server sets for applications. The relay bounds its statements itself; a poll
// may take long behind a lock, and the session that polls is idle for as long as Kafka takes. transaction_timeout is of version 17.
func liftTimeouts(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		`set statement_timeout = 0`, // of the next as well
		`select set_config(name, '0', false) from pg_settings
			where name in ('lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`,
	} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("lift the timeouts of the session: %w", err)
		}
	}
	return nil
}

// dial opens a connection that says in pg_stat_activity what it is for.
func (r *Relay) dial(ctx context.Context, role string) (*pgx.Conn, error) {
	cfg := r.pg.Copy()
	cfg.RuntimeParams["application_name"] = r.application() + role
	if role == rolePoll {
		gather(cfg)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// application is what the names of this outbox's sessions begin with.
func (r *Relay) application() string { return "millrace relay " + r.cfg.Outbox + " " }

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // whatever it says, the connection is gone
}
