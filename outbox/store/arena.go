package store

import "sync"

// arena owns the memory of one page: the events, and chunks that row values are copied into one after the other.
type arena struct {
	events []Event
	chunks [][]byte // all of arenaChunk bytes; those before `used` hold values of this page
	used   int
	keys   []byte // scratch of the page builder
	ends   []int
}

const (
	arenaChunk = 256 << 10 // bytes
	arenaKeep  = 64        // chunks kept for a later page: 16 MiB
)

var arenas = sync.Pool{New: func() any { return new(arena) }}

// copy returns a copy of b that lives as long as the page. It is never nil.
func (a *arena) copy(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	if len(b) > arenaChunk/4 {
		return append([]byte(nil), b...) // large values stand alone: chunks are not wasted on them, nor kept for them
	}
	chunk := a.room(len(b))
	from := len(*chunk)
	*chunk = append(*chunk, b...)
	return (*chunk)[from:len(*chunk):len(*chunk)]
}

// room returns the chunk in use, or the next one if n bytes do not fit.
func (a *arena) room(n int) *[]byte {
	if a.used > 0 {
		if chunk := &a.chunks[a.used-1]; cap(*chunk)-len(*chunk) >= n {
			return chunk
		}
	}
	if a.used == len(a.chunks) {
		a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
	}
	a.used++
	return &a.chunks[a.used-1]
}

// recycle hands the memory to a later page.
func (a *arena) recycle() {
	clear(a.events[:cap(a.events)]) // for the sake of their strings and large values
	a.events = a.events[:0]
	if len(a.chunks) > arenaKeep {
		clear(a.chunks[arenaKeep:])
		a.chunks = a.chunks[:arenaKeep]
	}
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.used = 0
	arenas.Put(a)
}
