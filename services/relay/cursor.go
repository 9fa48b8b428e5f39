package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// cursorVersion is the version of the cursor record that this relay writes, and the newest it reads.
const cursorVersion = 1

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
	// Source is the database as it was when the window was opened.
	Source store.Source
	// Partitions are the counts that keys are hashed over, by topic. They never change.
	Partitions map[string]int32
	// Time is when the record was made.
	Time time.Time
	// Anchoring is set while the outbox is being tied to another state of its database: no relay goes on from here.
	Anchoring *anchoring
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
	Source     sourceJSON       `json:"source"`
	Partitions map[string]int32 `json:"partitions"`
	Time       time.Time        `json:"time"`
	Anchoring  *anchoringJSON   `json:"anchoring,omitempty"`
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
		Row: c.Row, Event: c.EventID, Partitions: c.Partitions, Time: c.Time.UTC(), Source: encodeSource(c.Source),
		Anchoring: c.Anchoring.encode(),
	}
	return json.Marshal(j)
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
	if j.V != cursorVersion {
		return unreadable("version %d, this relay reads %d", j.V, cursorVersion)
	}
	c, err := j.cursor()
	if err != nil {
		return unreadable("%w", err)
	}
	return c, nil
}

func (j *cursorJSON) cursor() (*cursor, error) {
	c := &cursor{
		T: j.T, Seq: j.Seq, Position: j.Position, Row: j.Row, EventID: j.Event, Partitions: j.Partitions, Time: j.Time,
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
	return c, c.check()
}

// check finds what no relay writes.
func (c *cursor) check() error {
	switch {
	case c.T < 1:
		return fmt.Errorf("t is %d", c.T)
	case c.Seq < 0 || c.Position < 0 || c.Row < 0:
		return fmt.Errorf("seq %d, position %d, row %d: one is negative", c.Seq, c.Position, c.Row)
	case (c.Position > 0) != c.inWindow():
		return errors.New("a position without a window, or a window without a position")
	case c.inWindow() && c.Upper.Xmax < c.Last.Xmax:
		return fmt.Errorf("upper %s lies before last %s", c.Upper, c.Last)
	case c.Source.SystemID == "":
		return errors.New("no source")
	}
	for topic, n := range c.Partitions {
		if n < 1 {
			return fmt.Errorf("topic %q has %d partitions", topic, n)
		}
	}
	return nil
}

// clone returns a copy that shares nothing that changes.
func (c *cursor) clone() *cursor {
	d := *c
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
