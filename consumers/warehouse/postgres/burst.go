package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A burst is a transaction that is written without waiting for any answer: begin, guard, rows, statements and commit go out one behind
// the other, while the rows are still being made, and one wait at the end brings the outcome of all. The server runs them in order and
// leaves out everything behind the first error, the commit too.
//
// The protocol allows rows of COPY within such a sequence of the extended protocol; pgx's own pipelines and CopyFrom do not go together.
// So the messages are written here, on a connection that pgx has made and nobody else uses meanwhile, and read by pgx.
type burst struct {
	conn *pgconn.PgConn
	net  net.Conn
	ctx  context.Context
	buf  []byte
	open int // where the open CopyData message begins in buf; -1 if none
	stop func() bool
}

// burstBytes is the size from which what is made is written, in bytes.
const burstBytes = 64 << 10

// newBurst begins a sequence of messages; buf is memory to use. Until finish, the end of ctx interrupts it.
func newBurst(ctx context.Context, conn *pgconn.PgConn, buf []byte) *burst {
	b := &burst{conn: conn, net: conn.Conn(), ctx: ctx, buf: buf[:0], open: -1}
	b.stop = context.AfterFunc(ctx, func() { _ = b.net.SetWriteDeadline(time.Unix(1, 0)) })
	return b
}

// run adds a prepared statement; its parameters are texts.
func (b *burst) run(statement string, params ...[]byte) error {
	return b.send(&pgproto3.Bind{PreparedStatement: statement, Parameters: params}, &pgproto3.Execute{})
}

// runBinary is run with parameters in their binary form.
func (b *burst) runBinary(statement string, params ...[]byte) error {
	return b.send(&pgproto3.Bind{PreparedStatement: statement, ParameterFormatCodes: []int16{1}, Parameters: params}, &pgproto3.Execute{})
}

func (b *burst) send(messages ...pgproto3.FrontendMessage) error {
	for _, m := range messages {
		var err error
		if b.buf, err = m.Encode(b.buf); err != nil {
			return err
		}
	}
	return nil
}

// copyRows adds a COPY: a prepared statement, and rows that each call of row appends, until it says that there are no more.
func (b *burst) copyRows(statement string, n int, row func(buf []byte, i int) ([]byte, error)) error {
	if err := b.run(statement); err != nil {
		return err
	}
	b.openData()
	b.buf = append(b.buf, copyHead...)
	for i := range n {
		var err error
		if b.buf, err = row(b.buf, i); err != nil {
			return err
		}
		if len(b.buf) < burstBytes {
			continue
		}
		b.closeData()
		if err := b.write(); err != nil {
			return err
		}
		b.openData()
	}
	b.buf = append(b.buf, copyTail...)
	b.closeData()
	return b.send(&pgproto3.CopyDone{})
}

func (b *burst) openData() {
	b.open = len(b.buf)
	b.buf = append(b.buf, 'd', 0, 0, 0, 0)
}

func (b *burst) closeData() {
	be.PutUint32(b.buf[b.open+1:], uint32(len(b.buf)-b.open-1))
	b.open = -1
}

// write writes what there is.
func (b *burst) write() error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	_, err := b.net.Write(b.buf)
	b.buf = b.buf[:0]
	if err != nil && b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	return err
}

// commit writes the end of the transaction: from here on the outcome is the server's, so it is waited for, with a patience of its
// own, although ctx ends. sent is called between the two. An error that is no answer of the server leaves the outcome open.
func (b *burst) commit(patience time.Duration, statement string, sent func() error) error {
	if err := errors.Join(b.run(statement), b.send(&pgproto3.Sync{})); err != nil {
		return err
	}
	if err := b.ctx.Err(); err != nil { // the last moment at which nothing has happened for sure
		return err
	}
	if !b.stop() { // it has set the deadline, or will
		return b.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), patience)
	defer cancel()
	if err := b.net.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := b.net.Write(b.buf); err != nil {
		return fmt.Errorf("send the commit: %w", err)
	}
	if err := b.net.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	if err := sent(); err != nil {
		return err
	}
	return b.outcome(ctx)
}

// outcome reads the answers up to the end of the sequence, and returns the first error among them.
func (b *burst) outcome(ctx context.Context) error {
	var first error
	for {
		msg, err := b.conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("wait for the outcome: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			if first == nil {
				first = pgconn.ErrorResponseToPgError(msg)
			}
		case *pgproto3.ReadyForQuery:
			return first
		}
	}
}

// abandon ends the interest in ctx; the connection is of no more use then. Before its commit was written, the server finds the
// connection gone and undoes the transaction.
func (b *burst) abandon() { b.stop() }
