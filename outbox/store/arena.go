package store

import "sync"

// arena owns the memory of one page: chunks that row values are copied into, one after the other.
type arena struct {
	events []Event
	chunk  []byte   // being filled
	spare  [][]byte // filled earlier for this page
}

const arenaChunk = 256 << 10

var arenas = sync.Pool{New: func() any { return new(arena) }}

// copy returns a copy of b that lives as long as the arena. It is never nil.
func (a *arena) copy(b []byte) []byte {
	if len(b) > cap(a.chunk)-len(a.chunk) {
		if cap(a.chunk) > 0 {
			a.spare = append(a.spare, a.chunk)
		}
		a.chunk = make([]byte, 0, max(arenaChunk, len(b)))
	}
	from := len(a.chunk)
	a.chunk = append(a.chunk, b...)
	return a.chunk[from:len(a.chunk):len(a.chunk)]
}

func (a *arena) recycle() { arenas.Put(a) }
