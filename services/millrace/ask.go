package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/services/relay"
)

// asking is a command that asks the relay of an outbox for something, and waits for the answer.
type asking struct {
	outbox  string
	timeout time.Duration
	out     *format
}

// flags adds what such commands have in common.
func (q *asking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.outbox, "outbox", "", "`NAME` of the outbox, where there is more than one")
	cmd.Flags().DurationVar(&q.timeout, "timeout", 10*time.Minute, "how long to wait for the answer; the request stays when it is over")
	q.out = output(cmd)
}

// question is an outbox that is asked.
type question struct {
	*asking
	config *Config
	name   string
	outbox *Outbox
	conn   *pgx.Conn
	asker  *relay.Asker
	stderr io.Writer
}

// open finds the outbox and connects to its database; the caller closes.
func (q *asking) open(cmd *cobra.Command, a *app) (*question, error) {
	if q.timeout <= 0 {
		return nil, usagef("--timeout %v is not a time to wait", q.timeout)
	}
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	name, o, err := c.outbox(q.outbox)
	if err != nil {
		return nil, err
	}
	conn, err := connect(cmd.Context(), o)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", name, outboxAt(name).explain(err))
	}
	return &question{asking: q, config: c, name: name, outbox: o, conn: conn, asker: relay.NewAsker(conn, o.schema()), stderr: cmd.ErrOrStderr()}, nil
}

func (q *question) close() { _ = q.conn.Close(context.Background()) }

// quietFor is how long a command waits before it says what it waits for, and how often it says so again.
const quietFor = 2 * time.Second

// wait returns the answer to a request that was put, and tells meanwhile what it waits for. doing is what the relay was asked.
func (q *question) wait(ctx context.Context, doing string, id int64, err error) (*relay.Answer, error) {
	if err != nil {
		return nil, q.explain(err)
	}
	limit, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	said := time.Now()
	answer, err := q.asker.Wait(limit, id, func(sofar *relay.Answer) {
		if time.Since(said) < quietFor {
			return
		}
		said = time.Now()
		fmt.Fprintln(q.stderr, q.meanwhile(limit, doing, sofar))
	})
	if errors.Is(err, relay.ErrUnanswered) {
		return nil, q.unanswered(id)
	}
	return answer, q.explain(err)
}

// meanwhile says in a line what is waited for.
func (q *question) meanwhile(ctx context.Context, doing string, sofar *relay.Answer) string {
	leader, err := q.asker.Leader(ctx)
	switch {
	case err == nil && leader == nil:
		return fmt.Sprintf("no relay of outbox %s leads: waiting for one, or for a takeover", q.name)
	case sofar != nil && sofar.Released+sofar.Discarded+sofar.Left > 0:
		return fmt.Sprintf("%s: %s released, %s discarded, %s left", doing, number(sofar.Released), number(sofar.Discarded), number(sofar.Left))
	}
	return doing + ": waiting for the relay"
}

// unanswered says what becomes of a request that nobody waits for any more.
func (q *question) unanswered(id int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if leader, err := q.asker.Leader(ctx); err == nil && leader == nil {
		return fmt.Errorf("no relay of outbox %s leads: request %d stays, and is carried out when one does (millrace relay)", q.name, id)
	}
	return fmt.Errorf("the relay of outbox %s has not answered: request %d stays, and is carried out when it can", q.name, id)
}

// explain says what to do about tables that are not there.
func (q *question) explain(err error) error {
	if err == nil {
		return nil
	}
	if text := outboxAt(q.name).text(err); text != oneLine(err) {
		return fmt.Errorf("outbox %s: %s", q.name, text)
	}
	return fmt.Errorf("outbox %s: %w", q.name, err)
}
