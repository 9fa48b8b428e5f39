//go:build cgo

package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
)

// writer is the one goroutine that changes the file. What it takes from the queue it finishes: a caller whose context ends before
// that has changed nothing, one whose context ends later waits for the outcome.
type writer struct {
	w     *Warehouse
	conn  *duckdb.Conn
	queue chan *request // unbuffered: who hands over is taken
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}
}

// request is a claim or a batch, converted and waiting.
type request struct {
	tp     consumers.TopicPartition
	commit *fold.Commit // nil: a claim
	bronze [][]driver.Value
	silver map[string][]change // by entity
	claim  fold.Claim          // the answer to a claim
	err    error
	done   chan struct{}
}

// change is a row of silver and what tells two of one key apart.
type change struct {
	key     string
	version int64
	row     []driver.Value
}

func (r *request) rows() int {
	n := len(r.bronze)
	for _, changes := range r.silver {
		n += len(changes)
	}
	return n
}

func newWriter(w *Warehouse, conn *duckdb.Conn) *writer {
	return &writer{w: w, conn: conn, queue: make(chan *request), quit: make(chan struct{}), done: make(chan struct{})}
}

// stop ends the loop after the transaction at work.
func (wr *writer) stop() {
	wr.once.Do(func() { close(wr.quit) })
	<-wr.done
}

// Claim implements fold.Sink.
func (w *Warehouse) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	r := &request{tp: tp, done: make(chan struct{})}
	if err := w.write.submit(ctx, r); err != nil {
		return fold.Claim{}, doing(err, "claim %s/%d", tp.Topic, tp.Partition)
	}
	return r.claim, nil
}

// Commit implements fold.Sink.
func (w *Warehouse) Commit(ctx context.Context, c fold.Commit) error {
	r, err := w.convert(c)
	if err == nil {
		err = w.write.submit(ctx, r)
	}
	return doing(err, "commit %s/%d from %d to %d at epoch %d", c.Topic, c.Partition, c.From, c.Next, c.Epoch)
}

// convert turns a batch into rows, in the lane that brings it.
func (w *Warehouse) convert(c fold.Commit) (*request, error) {
	r := &request{tp: c.TopicPartition, commit: &c, silver: map[string][]change{}, done: make(chan struct{})}
	if w.cfg.Bronze != warehouse.BronzeOff {
		r.bronze = bronzeRows(c.Events, w.cfg.Bronze == warehouse.BronzeJSON)
	}
	for entity, changes := range c.Changes {
		t := w.tables[entity]
		if t == nil {
			return nil, consumers.AsSystemic(fmt.Errorf("%s: %w", entity, errUnknownEntity))
		}
		rows := make([]change, len(changes))
		for i, ch := range changes {
			row, err := t.row(ch)
			if err != nil { // the declaration and its values do not match: no retry helps
				return nil, consumers.AsSystemic(fmt.Errorf("%s %q: %w", entity, ch.Key, err))
			}
			rows[i] = change{ch.Key, ch.Version, row}
		}
		r.silver[entity] = rows
	}
	return r, nil
}

// submit hands a request over and waits for its outcome.
func (wr *writer) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case wr.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-wr.quit:
		return ErrClosed
	}
	<-r.done
	return r.err
}

// run serves the queue until stop.
func (wr *writer) run() {
	defer close(wr.done)
	for {
		select {
		case r := <-wr.queue:
			wr.serve(wr.gather(r))
		case <-wr.quit:
			return
		}
	}
}

// gather takes what other lanes have ready, without waiting for more.
func (wr *writer) gather(first *request) []*request {
	group, rows := []*request{first}, first.rows()
	for rows < wr.w.cfg.GroupRows {
		select {
		case r := <-wr.queue:
			group, rows = append(group, r), rows+r.rows()
		default:
			return group
		}
	}
	return group
}

// serve applies a group in one transaction. If that fails, each request has one to itself, so that none fails for another's fault.
func (wr *writer) serve(group []*request) {
	err := wr.transaction(group)
	if err != nil && len(group) > 1 {
		for _, r := range group {
			wr.serve([]*request{r})
		}
		return
	}
	for _, r := range group {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
}

// transaction applies what of the group can be applied; a request that is fenced or out of place gets its error and changes nothing.
func (wr *writer) transaction(group []*request) (err error) {
	ctx := context.Background() // what was taken is finished
	start := time.Now()
	if err := wr.begin(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, execute(ctx, wr.conn, "ROLLBACK"))
		}
	}()
	var accepted []*request
	for _, r := range group {
		r.err = nil
		ok, err := wr.admit(ctx, r)
		if err != nil {
			return err
		}
		if ok {
			accepted = append(accepted, r)
		}
	}
	if err := wr.apply(accepted); err != nil {
		return err
	}
	if err := execute(ctx, wr.conn, "COMMIT"); err != nil {
		return err
	}
	wr.count(accepted, time.Since(start))
	return wr.w.at("after commit")
}

// begin starts a transaction. Should an earlier one still be open, because its end failed, it is ended first.
func (wr *writer) begin(ctx context.Context) error {
	err := execute(ctx, wr.conn, "BEGIN TRANSACTION")
	if err == nil {
		return nil
	}
	if rerr := execute(ctx, wr.conn, "ROLLBACK"); rerr != nil {
		return errors.Join(err, rerr)
	}
	return execute(ctx, wr.conn, "BEGIN TRANSACTION")
}

// apply writes the rows of the accepted batches, those of one entity together.
func (wr *writer) apply(accepted []*request) error {
	if err := wr.w.at("after position"); err != nil {
		return err
	}
	if err := wr.appendBronze(accepted); err != nil {
		return err
	}
	if err := wr.w.at("after bronze"); err != nil {
		return err
	}
	if err := wr.mergeSilver(accepted); err != nil {
		return err
	}
	return wr.w.at("before commit")
}

func (wr *writer) count(accepted []*request, took time.Duration) {
	m := wr.w.metrics
	m.commits.Inc()
	m.commitTime.Observe(took.Seconds())
	m.groupBatches.Observe(float64(len(accepted)))
	for _, r := range accepted {
		m.rows.WithLabelValues("bronze").Add(float64(len(r.bronze)))
		m.rows.WithLabelValues("silver").Add(float64(r.rows() - len(r.bronze)))
	}
}

// at lets a test stop a commit at a point.
func (w *Warehouse) at(point string) error {
	if w.hook == nil {
		return nil
	}
	return w.hook(point)
}
