package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// Progress is how far an outbox is published, as Kafka and the table say it: no relay need be asked, or run.
type Progress struct {
	Outbox string `json:"outbox"`
	// T and Seq are those of the newest committed cursor; zero before the first event.
	T   int64 `json:"t"`
	Seq int64 `json:"seq"`
	// CursorTime is when that cursor was committed.
	CursorTime time.Time `json:"cursor_time,omitzero"`
	// Behind counts the committed events that are not published yet, at most store.BacklogCap. Oldest is when the oldest of
	// them occurred.
	Behind int64     `json:"behind"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Parked counts the events held back.
	Parked int64 `json:"parked"`
	// Pause is nil while the outbox is not paused.
	Pause *store.Pause `json:"pause"`
	// Retention is what the table holds; zero where the role may not see it.
	Retention RetentionStatus `json:"retention,omitzero"`
}

// Check returns what is wrong with a configuration that has its defaults, as New would; the parts that a program adds (Kafka,
// Registry) are not looked at.
func (c Config) Check() error {
	c.Kafka, c.Registry = []kgo.Opt{kgo.SeedBrokers("localhost")}, noRegistry{}
	return c.validate()
}

type noRegistry struct{}

func (noRegistry) Register(context.Context, string, string) (int, error) {
	return 0, errors.New("no registry")
}

// Inspect reads the newest committed cursor and parked events from Kafka, and counts what is left in the table.
func Inspect(ctx context.Context, cfg Config) (Progress, error) {
	p := Progress{Outbox: cfg.Outbox}
	client, err := newClient(cfg.Kafka)
	if err != nil {
		return p, err
	}
	defer client.Close()
	cur, err := committedCursor(ctx, client, cfg.Outbox)
	if err != nil {
		return p, err
	}
	var last, upper *store.Snapshot
	var position int64
	if cur != nil {
		p.T, p.Seq, p.CursorTime, position = cur.T, cur.Seq, cur.Time, cur.Position
		last = &cur.Last
		if cur.inWindow() {
			upper = &cur.Upper
		}
	}
	parked, err := OpenParked(ctx, cfg.Kafka, cfg.Outbox, Selection{All: true}, nil)
	if err != nil {
		return p, err
	}
	defer parked.Close()
	p.Parked = int64(parked.Len())
	conn, err := lookIn(ctx, cfg.Postgres)
	if err != nil {
		return p, err
	}
	defer closeConn(conn)
	p.Behind, p.Oldest, err = store.Backlog(ctx, conn, cfg.Schema, last, upper, position)
	if err != nil {
		return p, wrap(err, "count what is not published yet")
	}
	wanted, err := store.LookForRequests(ctx, conn, cfg.Schema, 0)
	if err != nil && !store.NoRequests(err) {
		return p, wrap(err, "ask whether it is paused")
	}
	p.Pause = wanted.Pause
	if last == nil {
		last = &store.Snapshot{}
	}
	p.Retention = inspectRing(ctx, conn, cfg, *last, &parked.held)
	return p, nil
}

// lookInTimeout is how long the connection of somebody who only looks may take.
const lookInTimeout = 10 * time.Second

// lookIn connects to Postgres for somebody who waits for what it says. Nor does that wait behind a stranger's lock on the outbox.
func lookIn(ctx context.Context, dsn string) (*pgx.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, lookInTimeout)
	defer cancel()
	conn, err := pgx.Connect(bounded, dsn)
	if err != nil {
		return nil, wrap(err, "connect to Postgres")
	}
	if _, err := conn.Exec(bounded, `set lock_timeout = '5s'`); err != nil {
		closeConn(conn)
		return nil, wrap(err, "bound the wait for locks")
	}
	return conn, nil
}

// lateAfter is how long a leaf may be due before that is told to be late: the relay looks every few seconds.
const lateAfter = time.Minute

// inspectRing tells what the table holds, and why rows stay for longer than they should. Where the ring cannot be read, that is the
// reason: nobody empties leaves then.
func inspectRing(ctx context.Context, conn *pgx.Conn, cfg Config, last store.Snapshot, held *pins) RetentionStatus {
	var r RetentionStatus
	ring, err := store.ReadRing(ctx, conn, cfg.Schema)
	if err != nil {
		if cfg.Retention.on() {
			r.Delayed = retainTrouble(err)
		}
		return r
	}
	r.measure(&ring, ring.Now)
	plan := cfg.Retention.plan(&ring, last, held.in)
	r.Delayed = plan.delayed
	for _, leaf := range plan.empty {
		if left := ring.Leaves[leaf].Left; r.Delayed == "" && cfg.Retention.Age > 0 && ring.Now.Sub(left) > cfg.Retention.Age+lateAfter {
			r.Delayed = fmt.Sprintf("leaf %d is due since %s: no relay leads, or another session is reading it (a dump, a long query)", leaf,
				left.Add(cfg.Retention.Age).UTC().Format(time.RFC3339))
		}
	}
	return r
}

// committedCursor returns the newest committed cursor; nil if there is none.
func committedCursor(ctx context.Context, client *kgo.Client, outbox string) (*cursor, error) {
	name := cursorTopic(outbox)
	meta, err := kadm.NewClient(client).Metadata(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about %s: %w", name, err)
	}
	if errors.Is(meta.Topics[name].Err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	logs, err := openLogs(ctx, client, committedEnds, name)
	if err != nil {
		return nil, err
	}
	value, err := logs[name][cursorPartition].newestCursor(ctx)
	if err != nil || value == nil {
		return nil, err
	}
	return decodeCursor(value)
}
