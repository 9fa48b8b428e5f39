package history

import (
	"fmt"
	"sync"
)

// Seen is one published event.
type Seen struct {
	EventID [16]byte
	Key     string
	N       int64 // the key's counter, as the event carries it
}

// Ledger records what was published, in the order of publication. It is safe for concurrent use.
type Ledger struct {
	mu sync.Mutex
	// guards the following
	seen  []Seen
	count map[[16]byte]int
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{count: map[[16]byte]int{}} }

// Add records an event as published.
func (l *Ledger) Add(s Seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, s)
	l.count[s.EventID]++
}

// Has reports whether the event was published.
func (l *Ledger) Has(eventID [16]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[eventID] > 0
}

// Len returns how many events were published.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// Kind says what is wrong.
type Kind string

const (
	// Missing: committed, and never published.
	Missing Kind = "missing"
	// Twice: published more than once.
	Twice Kind = "twice"
	// Ghost: published, but not committed.
	Ghost Kind = "ghost"
	// Inversion: published after a later event of its key, whose writers took turns.
	Inversion Kind = "inversion"
)

// Violation is one broken promise.
type Violation struct {
	Kind Kind
	What string
}

func (v Violation) String() string { return string(v.Kind) + ": " + v.What }

// Verify compares what was published with the truth and returns all that is wrong.
func (l *Ledger) Verify(truth Truth) []Violation {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Violation
	add := func(kind Kind, format string, args ...any) {
		found = append(found, Violation{kind, fmt.Sprintf(format, args...)})
	}
	for id, row := range truth.Rows {
		if l.count[id] == 0 {
			add(Missing, "event %x, id %d, xid %d, key %s, n %d", id, row.ID, row.Xid, row.Key, row.N)
		}
	}
	for id, n := range l.count {
		if n > 1 {
			add(Twice, "event %x: %d times", id, n)
		}
	}
	last := map[string]int64{}
	for i, s := range l.seen {
		if _, committed := truth.Rows[s.EventID]; !committed {
			add(Ghost, "event %x, key %s, n %d", s.EventID, s.Key, s.N)
			continue
		}
		if _, ordered := truth.Counters[s.Key]; !ordered {
			continue
		}
		if s.N <= last[s.Key] && l.count[s.EventID] == 1 {
			add(Inversion, "publication %d, key %s: n %d after %d", i, s.Key, s.N, last[s.Key])
		}
		last[s.Key] = s.N
	}
	return found
}

// Count counts the violations of each kind.
func Count(violations []Violation) map[Kind]int {
	n := map[Kind]int{}
	for _, v := range violations {
		n[v.Kind]++
	}
	return n
}
