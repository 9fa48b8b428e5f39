package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// Versions of the cursor record. A relay that knows no intents must not go on from a record that can have one.
const (
	cursorVersion  = 1
	stampedVersion = 2 // with an epoch: the outbox was delivered at least once, some time
)

// maxCursorBytes bounds what is decoded; a cursor has a few hundred bytes, and 12 for each transaction open at the time.
const maxCursorBytes = 4 << 20

// cursor says what has been published. It is written in the Kafka transaction of the events it counts.
type cursor struct {
	// T is the number of this transaction; its transactional id is T mod 2.
	T int64
	// Seq is the millrace-seq of the last event published.
	Seq int64
	// Last is the snapshot up to which everything is published.
	Last store.Snapshot
	// Upper is the end of the window being read, Position the row id up to which it is published. Zero between windows.
	Upper    store.Snapshot
	Position int64
	// Row and EventID are those of the last row published or parked.
	Row     int64
	EventID uuid.UUID
	// Xid is that row's transaction, Highest the highest id ever published or parked; see store.History. Zero in what relays wrote that
	// did not know them.
	Xid     uint64
	Highest int64
	// Source is the database as it was when the window was opened.
	Source store.Source
	// Partitions are the counts that keys are hashed over, by topic. They never change.
	Partitions map[string]int32
	// Time is when the record was made.
	Time time.Time
	// Anchoring is set while the outbox is being tied to another state of its database: no relay goes on from here.
	Anchoring *anchoring

	stamp
	// Intent is a page that is being sent, at least once, and not known to be there; nil if there is none.
	Intent *intent
}

// inWindow says whether the cursor stands within a window, which a restart must read again as it was.
func (c *cursor) inWindow() bool { return !c.Upper.IsZero() }

type cursorJSON struct {
	V          int              `json:"v"`
	T          int64            `json:"t"`
	Seq        int64            `json:"seq"`
	Last       string           `json:"last,omitempty"`
	Upper      string           `json:"upper,omitempty"`
	Position   int64            `json:"position,omitempty"`
	Row        int64            `json:"row,omitempty"`
	Event      uuid.UUID        `json:"event"`
	Xid        uint64           `json:"xid,omitempty"`
	Highest    int64            `json:"highest,omitempty"`
	Source     sourceJSON       `json:"source"`
	Partitions map[string]int32 `json:"partitions"`
	Time       time.Time        `json:"time"`
	Anchoring  *anchoringJSON   `json:"anchoring,omitempty"`
	stamp
	Intent *intentJSON `json:"intent,omitempty"`
}

type intentJSON struct {
	Released   []release        `json:"released,omitempty"`
	Upper      string           `json:"upper,omitempty"`
	Row        int64            `json:"row,omitempty"`
	Rows       int              `json:"rows,omitempty"`
	Done       int              `json:"done,omitempty"`
	Parked     []byte           `json:"parked,omitempty"`
	Seqs       [][2]int64       `json:"seqs,omitempty"`
	Partitions map[string]int32 `json:"partitions,omitempty"`
}

type sourceJSON struct {
	System   string `json:"system"`
	Timeline uint32 `json:"timeline"`
	LSN      string `json:"lsn"`
	Xmax     uint64 `json:"xmax"`
}

func encodeSource(s store.Source) sourceJSON {
	return sourceJSON{System: s.SystemID, Timeline: s.Timeline, LSN: store.FormatLSN(s.LSN), Xmax: s.Xmax}
}

func (j sourceJSON) source() (store.Source, error) {
	lsn, err := store.ParseLSN(j.LSN)
	return store.Source{SystemID: j.System, Timeline: j.Timeline, LSN: lsn, Xmax: j.Xmax}, err
}

func (c *cursor) encode() ([]byte, error) {
	j := cursorJSON{
		V: cursorVersion, T: c.T, Seq: c.Seq, Last: c.Last.String(), Upper: c.Upper.String(), Position: c.Position,
		Row: c.Row, Event: c.EventID, Xid: c.Xid, Highest: c.Highest, Partitions: c.Partitions, Time: c.Time.UTC(), Source: encodeSource(c.Source),
		Anchoring: c.Anchoring.encode(),
	}
	if c.Epoch > 0 {
		j.V, j.stamp = stampedVersion, c.stamp
	}
	if i := c.Intent; i != nil {
		j.Intent = &intentJSON{
			Released: i.Released, Upper: i.Upper.String(), Row: i.Row, Rows: i.Rows, Done: i.Done, Parked: i.Parked, Seqs: i.Seqs, Partitions: i.Partitions,
		}
	}
	return json.Marshal(j)
}

// record makes the record that holds the cursor.
func (c *cursor) record(outbox string) (*kgo.Record, error) {
	value, err := c.encode()
	if err != nil {
		return nil, fmt.Errorf("encode the cursor: %w", err)
	}
	return &kgo.Record{Topic: cursorTopic(outbox), Partition: cursorPartition, Key: []byte(cursorKey), Value: value}, nil
}

// decodeCursor reads a cursor record. Its errors are ErrCursorUnreadable in a *StopError.
func decodeCursor(value []byte) (*cursor, error) {
	unreadable := func(format string, args ...any) (*cursor, error) {
		return nil, stopf("run the newest version of the relay that ever ran on this outbox",
			"%w: "+format, append([]any{ErrCursorUnreadable}, args...)...)
	}
	if len(value) > maxCursorBytes {
		return unreadable("a record of %d bytes, at most %d are read", len(value), maxCursorBytes)
	}
	var j cursorJSON
	if err := json.Unmarshal(value, &j); err != nil {
		return unreadable("%w", err)
	}
	if j.V != cursorVersion && j.V != stampedVersion {
		return unreadable("version %d, this relay reads %d and %d", j.V, cursorVersion, stampedVersion)
	}
	c, err := j.cursor()
	if err != nil {
		return unreadable("%w", err)
	}
	return c, nil
}

func (j *cursorJSON) cursor() (*cursor, error) {
	c := &cursor{
		T: j.T, Seq: j.Seq, Position: j.Position, Row: j.Row, EventID: j.Event, Xid: j.Xid, Highest: j.Highest, Partitions: j.Partitions, Time: j.Time,
		stamp: j.stamp,
	}
	if c.Partitions == nil {
		c.Partitions = map[string]int32{}
	}
	var err error
	if c.Last, err = parseSnapshot(j.Last); err != nil {
		return nil, fmt.Errorf("last: %w", err)
	}
	if c.Upper, err = parseSnapshot(j.Upper); err != nil {
		return nil, fmt.Errorf("upper: %w", err)
	}
	if c.Source, err = j.Source.source(); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if c.Anchoring, err = j.Anchoring.decode(); err != nil {
		return nil, fmt.Errorf("anchoring: %w", err)
	}
	if i := j.Intent; i != nil {
		c.Intent = &intent{
			Released: i.Released, Row: i.Row, Done: i.Done, Partitions: i.Partitions, decisions: decisions{Rows: i.Rows, Parked: i.Parked, Seqs: i.Seqs},
		}
		if c.Intent.Upper, err = parseSnapshot(i.Upper); err != nil {
			return nil, fmt.Errorf("intent: %w", err)
		}
	}
	return c, c.check()
}

// check finds what no relay writes.
func (c *cursor) check() error {
	switch {
	case c.T < 0 || c.T == 0 && c.Epoch == 0: // claims and intents can come before the first
		return fmt.Errorf("t is %d", c.T)
	case c.Seq < 0 || c.Position < 0 || c.Row < 0 || c.Highest < 0:
		return fmt.Errorf("seq %d, position %d, row %d, highest %d: one is negative", c.Seq, c.Position, c.Row, c.Highest)
	case (c.Position > 0) != c.inWindow():
		return errors.New("a position without a window, or a window without a position")
	case c.inWindow() && c.Upper.Xmax < c.Last.Xmax:
		return fmt.Errorf("upper %s lies before last %s", c.Upper, c.Last)
	case c.Source.SystemID == "" && !c.Claim: // a claim can come before the first window
		return errors.New("no source")
	case c.Epoch < 0:
		return fmt.Errorf("epoch %d", c.Epoch)
	case c.Intent != nil:
		if err := c.Intent.check(); err != nil {
			return err
		}
	}
	return checkPartitions(c.Partitions)
}

func checkPartitions(all map[string]int32) error {
	for topic, n := range all {
		if n < 1 {
			return fmt.Errorf("topic %q has %d partitions", topic, n)
		}
	}
	return nil
}

// clone returns a copy that shares nothing that changes, and claims nothing.
func (c *cursor) clone() *cursor {
	d := *c
	d.Claim, d.At = false, 0
	d.Partitions = make(map[string]int32, len(c.Partitions))
	for topic, n := range c.Partitions {
		d.Partitions[topic] = n
	}
	return &d
}

// parseSnapshot also reads the empty text of the zero snapshot, which stands before the first event.
func parseSnapshot(text string) (store.Snapshot, error) {
	if text == "" {
		return store.Snapshot{}, nil
	}
	return store.ParseSnapshot(text)
}
