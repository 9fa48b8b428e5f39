package peer

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxRows    = 10     // rows of one statement
	pipelined  = 2000   // events sent before the answers are read, and the rest of their transaction
	keys       = 10_000 // different keys of events
	idPrefix   = 0x6d696c6c72616365
	loadReport = 100_000 // events from one line of progress to the next
)

// inserter inserts events, several in one transaction.
type inserter struct {
	conn    *pgx.Conn
	payload func(n int) []byte
	params  [][]byte
	formats []int16
	rows    int // of a transaction of the backlog; 0: 1 to maxRows in turn
	sent    int // transactions
}

// newInserter prepares one statement for each number of rows. Each is a transaction of its own.
func (b *outbox) newInserter(ctx context.Context, rows int, payload func(n int) []byte) (*inserter, error) {
	conn, err := pgx.ConnectConfig(ctx, b.config)
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", b.name, err)
	}
	i := &inserter{conn: conn, rows: rows, payload: payload}
	for rows := 1; rows <= maxRows; rows++ {
		if _, err := conn.PgConn().Prepare(ctx, statement(rows), insertSQL(rows), nil); err != nil {
			conn.Close(ctx)
			return nil, fmt.Errorf("prepare an insert of %d rows: %w", rows, err)
		}
		i.formats = append(i.formats, pgx.BinaryFormatCode, pgx.BinaryFormatCode, pgx.BinaryFormatCode)
	}
	return i, nil
}

func statement(rows int) string { return "insert" + strconv.Itoa(rows) }

func insertSQL(rows int) string {
	var sql strings.Builder
	sql.WriteString("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES ")
	for r := range rows {
		if r > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "($%d, 'order', $%d, 'OrderPlaced', $%d)", 3*r+1, 3*r+2, 3*r+3)
	}
	return sql.String()
}

// values fills params with events n to n+rows-1. Ids ascend: that is the cheapest for the index and for the log.
func (i *inserter) values(n, rows int) {
	i.params = i.params[:0]
	for ; rows > 0; n, rows = n+1, rows-1 {
		id := binary.BigEndian.AppendUint64(nil, idPrefix)
		id = binary.BigEndian.AppendUint64(id, uint64(n))
		i.params = append(i.params, id, strconv.AppendInt(nil, int64(n%keys), 10), i.payload(n))
	}
}

// insert inserts events n to n+rows-1 in one transaction and returns when it is committed.
func (i *inserter) insert(ctx context.Context, n, rows int) error {
	i.values(n, rows)
	result := i.conn.PgConn().ExecPrepared(ctx, statement(rows), i.params, i.formats[:3*rows], nil).Read()
	if result.Err != nil {
		return fmt.Errorf("insert event %d: %w", n, result.Err)
	}
	return nil
}

// load inserts events from to to-1 as fast as it can and has them written to disk.
func (i *inserter) load(ctx context.Context, from, to int, progress func(string)) error {
	if _, err := i.conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return fmt.Errorf("load the outbox: %w", err)
	}
	for n := from; n < to; {
		next, err := i.pipeline(ctx, n, to)
		if err != nil {
			return fmt.Errorf("load the outbox from event %d on: %w", n, err)
		}
		if n/loadReport != next/loadReport {
			progress(fmt.Sprintf("loaded %d of %d events", next-from, to-from))
		}
		n = next
	}
	// The end of the log is flushed, and no checkpoint falls into what is measured next.
	if _, err := i.conn.Exec(ctx, "CHECKPOINT; SET synchronous_commit = on"); err != nil {
		return fmt.Errorf("write the outbox to disk: %w", err)
	}
	return nil
}

// pipeline sends some transactions at once and reads their answers. It returns the next event.
func (i *inserter) pipeline(ctx context.Context, n, to int) (next int, err error) {
	p := i.conn.PgConn().StartPipeline(ctx)
	defer func() {
		if closeErr := p.Close(); err == nil {
			err = closeErr
		}
	}()
	for end := min(n+pipelined, to); n < end; {
		n = i.send(p, n, min(i.transaction(), to-n))
	}
	if err := p.Flush(); err != nil {
		return n, err
	}
	return n, answers(p)
}

// transaction returns how many rows the next transaction has.
func (i *inserter) transaction() int {
	if i.rows > 0 {
		return i.rows
	}
	i.sent++
	return 1 + i.sent*7%maxRows // each number once in ten
}

// send sends events n to n+rows-1: what stands between two syncs is one transaction.
func (i *inserter) send(p *pgconn.Pipeline, n, rows int) (next int) {
	for end := n + rows; n < end; {
		count := min(maxRows, end-n)
		i.values(n, count)
		p.SendQueryPrepared(statement(count), i.params, i.formats[:3*count], nil)
		n += count
	}
	p.SendPipelineSync()
	return n
}

func answers(p *pgconn.Pipeline) error {
	for {
		result, err := p.GetResults()
		if err != nil {
			return err
		}
		switch r := result.(type) {
		case nil:
			return nil
		case *pgconn.ResultReader:
			if _, err := r.Close(); err != nil {
				return err
			}
		}
	}
}

func (i *inserter) close() {
	if i != nil {
		i.conn.Close(context.Background())
	}
}
