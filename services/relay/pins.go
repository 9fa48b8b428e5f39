package relay

import (
	"sync"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

// pins are the parked events that are not whole without their row in the outbox table: the leaf of such a row is not emptied.
//
// An event is held before the transaction that parks it is committed, so before the cursor has passed its row. A start
// holds what it reads back. The loop writes, the retainer reads.
type pins struct {
	mu   sync.Mutex // guards the following
	rows map[uuid.UUID]int64
}

// hold takes an event that was parked and not all of it; others need no row.
func (p *pins) hold(e *Parked) {
	if p == nil || !e.needsRow() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == nil {
		p.rows = map[uuid.UUID]int64{}
	}
	p.rows[e.EventID] = e.Row
}

// drop lets go of an event that is parked no longer: its release or its discard is committed.
func (p *pins) drop(id uuid.UUID) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rows, id)
}

// clear forgets everything, before a start reads it back.
func (p *pins) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = nil
}

// in counts the rows in a leaf of the table.
func (p *pins) in(leaf int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, row := range p.rows {
		if store.LeafOf(row) == leaf {
			n++
		}
	}
	return n
}
