package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// intent is a page that was announced before its first record was sent: what it held and what was decided about it. Whoever
// finds it in the cursor does the same again, whatever has changed since: the same rows, the same versions, the same events
// parked.
//
// Without it a second attempt would decide otherwise. A new window holds rows that lie between those of the old one, a
// key is held up by an event that the first attempt parked further down, the topic already holds the versions of the first
// attempt: each moves the versions of all that follows, and sinks would apply an event twice.
type intent struct {
	// Released are parked events that are released, in order; an intent has these or rows, not both.
	Released []release
	// Upper ends the window of the page. The window begins at the cursor's Last, the page after the cursor's Position.
	Upper store.Snapshot
	// Row is the last row of the page.
	Row int64
	// Done counts the rows that were sent again, where a page is smaller than the one announced.
	Done int
	// Partitions are those of the topics that the page is the first to use.
	Partitions map[string]int32

	decisions
}

// release is a parked event that is published with its version, for a request or, at 0, for none.
type release struct {
	Event   uuid.UUID `json:"event"`
	Seq     int64     `json:"seq"`
	Request int64     `json:"request,omitempty"`
}

// releases are the events that a batch of the clerk's publishes. Each has a record and then a tombstone.
func releases(b *batch) []release {
	var all []release
	seqs := map[string]int64{}
	for _, r := range b.records {
		switch {
		case !internal(r.Topic):
			seqs[headerOf(r, headerID)] = seqOf(r)
		case len(r.Value) == 0 && seqs[string(r.Key)] > 0:
			request, _ := strconv.ParseInt(headerOf(r, headerRequest), 10, 64)
			all = append(all, release{Event: uuid.MustParse(string(r.Key)), Seq: seqs[string(r.Key)], Request: request})
		}
	}
	return all
}

func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// decisions are what a page's rows came to, by their place in the page.
type decisions struct {
	// Rows is how many there are.
	Rows int
	// Parked has a bit for each row that was parked; it may end early.
	Parked []byte
	// Seqs are places and their versions, where a version is not one more than the one before.
	Seqs [][2]int64
}

// add notes the next row: whether it was parked, and if not, its version and that of the event before.
func (d *decisions) add(parked bool, seq, before int64) {
	i := d.Rows
	d.Rows++
	switch {
	case parked:
		for len(d.Parked) <= i/8 {
			d.Parked = append(d.Parked, 0)
		}
		d.Parked[i/8] |= 1 << (i % 8)
	case seq != before+1:
		d.Seqs = append(d.Seqs, [2]int64{int64(i), seq})
	}
}

func (d *decisions) parked(i int) bool { return i/8 < len(d.Parked) && d.Parked[i/8]>>(i%8)&1 == 1 }

// seq returns the version of row i, published after an event of the version before.
func (d *decisions) seq(i int, before int64) int64 {
	for _, s := range d.Seqs {
		if s[0] == int64(i) {
			return s[1]
		}
	}
	return before + 1
}

// after returns what is left of the intent when n more rows were sent again; nil if nothing is.
func (i *intent) after(n int) *intent {
	if i == nil || i.Done+n >= i.Rows {
		return nil
	}
	rest := *i
	rest.Done += n
	return &rest
}

// check finds what no relay writes.
func (i *intent) check() error {
	switch {
	case len(i.Released) > 0 && i.Rows == 0:
		return checkPartitions(i.Partitions)
	case i.Rows < 1 || i.Rows > maxPageSize || i.Done < 0 || i.Done >= i.Rows:
		return fmt.Errorf("intent of %d rows, %d of them done", i.Rows, i.Done)
	case len(i.Parked) > (i.Rows+7)/8 || len(i.Seqs) > i.Rows:
		return errors.New("intent that decides about more rows than it has")
	case i.Row < 1 || i.Upper.IsZero():
		return errors.New("intent without an end")
	}
	return checkPartitions(i.Partitions)
}

// resume makes the cursor stand in the page that was announced, if there is one.
func (c *cursor) resume() {
	if c.Intent == nil {
		return
	}
	if c.Intent.Rows > 0 {
		c.Upper = c.Intent.Upper
	}
	maps.Copy(c.Partitions, c.Intent.Partitions)
}

// intender writes down what is going to be sent. *atLeastOnce does; transactions need no such thing.
type intender interface {
	intend(ctx context.Context, record *kgo.Record) error
}

// announce does what has to be done before the first record of a page is sent, when what is sent cannot be taken back.
//
// Promise 1: an event of a transaction that a crash of Postgres can still undo is not sent.
// Promise 3: what is going to be sent, and with which versions, is known to whoever comes next.
func (l *loop) announce(work context.Context, next *cursor, b *batch) error {
	if l.intender == nil {
		return nil
	}
	if err := l.gate(work, l.window); err != nil {
		return err
	}
	if err := l.await(); err != nil {
		return err
	}
	if len(b.records) == 0 || l.cursor.Intent != nil {
		return nil // nothing to announce, or announced before
	}
	said := l.cursor.clone()
	said.Time, said.Source = l.now().UTC(), next.Source
	said.Intent = &intent{Partitions: map[string]int32{}}
	if b.decided.Rows > 0 {
		said.Intent.Upper, said.Intent.Row, said.Intent.decisions = l.window.Upper, next.Row, b.decided
	} else if said.Intent.Released = releases(b); said.Intent.Released == nil {
		return nil // nothing that has a version
	}
	for topic, n := range next.Partitions {
		if _, before := said.Partitions[topic]; !before {
			said.Intent.Partitions[topic] = n
		}
	}
	record, err := said.record(l.cfg.Outbox)
	if err != nil {
		return err
	}
	l.point(pointIntending)
	if err := l.intender.intend(work, record); err != nil {
		return err
	}
	l.point(pointIntended)
	return nil
}

// cut makes a page end where the one announced ended.
func (l *loop) cut(page store.Page) (store.Page, error) {
	said := l.cursor.Intent
	if said == nil {
		return page, nil
	}
	left := said.Rows - said.Done
	if len(page.Events) > left {
		page.Events, page.More = page.Events[:left], true
	}
	last, _ := page.LastID()
	if n := len(page.Events); n == left && last != said.Row || n < left && !page.More {
		return page, stopf("if the database was restored or failed over, the relay must be re-anchored to it",
			"%w: %d rows up to row %d were announced, %d up to row %d are in the outbox", store.ErrDiverged, left, said.Row, n, last)
	}
	return page, nil
}
