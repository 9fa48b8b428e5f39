package store

import (
	"time"

	"github.com/millrace/millrace/schemas"
)

// Event is one row of outbox.event. Exactly one of Payload and Body is set. Its byte slices belong to the page it
// came in: they are good until Page.Release. Its strings are its own.
type Event struct {
	// Xid is the transaction that wrote the row.
	Xid uint64
	// ID is the row's id: within a window, events come strictly by it.
	ID int64
	// EventID is the UUID that identifies the event wherever it goes.
	EventID [16]byte
	// Topic, Key and Type are never null; each may be empty only if a writer went around the library.
	Topic, Key, Type string
	// Fingerprint names the schema the event was written with; see Reader.Schema.
	Fingerprint schemas.Fingerprint
	// Payload is Avro binary without a frame, nil if the event came as JSON. An empty payload is not nil.
	Payload []byte
	// Body is JSON text from outbox.emit, nil if the event came as Avro.
	Body []byte
	// Headers is a JSON object of strings, nil if there are none.
	Headers []byte
	// OccurredAt is when the row was inserted (UTC, microseconds) by the clock of the database.
	OccurredAt time.Time
}

// Page is a run of events of one window, strictly by id.
type Page struct {
	// Events are the page's events; empty if the window has none (left).
	Events []Event
	// More says that the window may go on after the last of Events. When it is false, the window is read to its end.
	More bool

	bytes int // of memory, more or less
	arena *arena
}

// weight is the bytes of an event, on average; 0 for a page that was cut at maxBytes, or is empty.
func (p *Page) weight(maxBytes int) int {
	if len(p.Events) == 0 || p.bytes >= maxBytes {
		return 0
	}
	return p.bytes / len(p.Events)
}

// LastID returns the id of the page's last event: the `after` of the next page. ok is false for an empty page.
func (p *Page) LastID() (id int64, ok bool) {
	if len(p.Events) == 0 {
		return 0, false
	}
	return p.Events[len(p.Events)-1].ID, true
}

// Release gives the page's memory back for a later page to use. The events and all their byte slices must not be
// touched afterwards. Releasing is optional, once, and only for what nobody reads any more.
func (p *Page) Release() {
	if p.arena == nil {
		return
	}
	p.arena.events = p.Events[:0]
	p.arena.recycle()
	*p = Page{}
}
