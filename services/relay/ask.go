package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

// ErrUnanswered is what Wait returns when its context ends first. The request stays: the relay carries it out when it can.
var ErrUnanswered = errors.New("the relay has not answered")

// MaxNamed is how many events one request to discard may name.
const MaxNamed = 100_000

// Asker puts requests to the relay of an outbox, wherever that runs: they are rows in the outbox's database. It is not safe for
// concurrent use.
type Asker struct {
	conn   *pgx.Conn
	schema string
	by     string
	// Every is how often an answer is looked for. Default 200 ms.
	Every time.Duration
}

// NewAsker asks through a connection, which stays the caller's. schema is the outbox's database schema. What is asked is asked in
// the name of the user of this process.
func NewAsker(conn *pgx.Conn, schema string) *Asker {
	return &Asker{conn: conn, schema: schema, by: whoami(), Every: 200 * time.Millisecond}
}

// whoami is user@host, as far as the machine tells.
func whoami() string {
	name, host := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// Release asks that parked events be published. It returns the request's id.
func (a *Asker) Release(ctx context.Context, s Selection) (int64, error) {
	return store.Ask(ctx, a.conn, a.schema, store.RequestRelease, s, a.by, "")
}

// Discard asks that parked events be dropped, at most MaxNamed. What waits only for them is released then, unless hold is set. why goes
// on record with them (Discarded); it may be empty.
func (a *Asker) Discard(ctx context.Context, events []uuid.UUID, hold bool, why string) (int64, error) {
	if len(events) > MaxNamed {
		return 0, fmt.Errorf("%d events are to be discarded, at most %d are in one go", len(events), MaxNamed)
	}
	return store.Ask(ctx, a.conn, a.schema, store.RequestDiscard, discardArgs{Events: events, Hold: hold, Why: why}, a.by, "")
}

// Pause pauses the outbox, at once and until Resume. The request is answered when a relay that leads has heeded it.
func (a *Asker) Pause(ctx context.Context, reason string) (int64, error) {
	return store.Ask(ctx, a.conn, a.schema, store.RequestPause, struct{}{}, a.by, reason)
}

// Resume ends the pause.
func (a *Asker) Resume(ctx context.Context) (int64, error) {
	return store.Ask(ctx, a.conn, a.schema, store.RequestResume, struct{}{}, a.by, "")
}

// Drain asks to be told when everything that is committed now is published. With pause the outbox is paused from then on.
func (a *Asker) Drain(ctx context.Context, pause bool, reason string) (int64, error) {
	return store.Ask(ctx, a.conn, a.schema, store.RequestDrain, drainArgs{Pause: pause, Reason: reason}, a.by, "")
}

// Leader tells which session leads the outbox; nil if none does.
func (a *Asker) Leader(ctx context.Context) (*store.Session, error) {
	return store.WhoLeads(ctx, a.conn, a.schema)
}

// Wait returns the answer to a request. seen is called with each look in vain, with what was reported so far, nil if nothing
// was. ErrUnanswered if ctx ends first.
func (a *Asker) Wait(ctx context.Context, id int64, seen func(*Answer)) (*Answer, error) {
	for {
		// A look that ctx would cut off would cost the connection; it is short.
		asked, err := store.LookUp(context.WithoutCancel(ctx), a.conn, a.schema, id)
		if err != nil {
			return nil, err
		}
		if asked.Done {
			return decodeAnswer(asked.Result)
		}
		sofar, err := decodeAnswer(asked.Progress)
		if err != nil {
			return nil, err
		}
		seen(sofar)
		if sleep(ctx, a.Every) != nil {
			return nil, fmt.Errorf("request %d: %w", id, ErrUnanswered)
		}
	}
}

func decodeAnswer(text []byte) (*Answer, error) {
	if text == nil {
		return nil, nil
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("read the relay's answer: %w", err)
	}
	return &a, nil
}

// Paused returns the pause of the outbox; nil if it is not paused.
func (a *Asker) Paused(ctx context.Context) (*store.Pause, error) {
	wanted, err := store.LookForRequests(ctx, a.conn, a.schema, 0)
	return wanted.Pause, err
}
