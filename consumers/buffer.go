package consumers

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordBytes is what a record counts for: its content and what it takes to hold it.
func recordBytes(r *kgo.Record) int {
	n := 200 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 40 + len(h.Key) + len(h.Value)
	}
	return n
}

// feed takes records in. When the lane has enough, the partition is paused.
func (l *lane) feed(records []*kgo.Record, maxBytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.buf) == 0 {
		l.since = time.Now()
	}
	l.maxBytes = maxBytes
	for _, r := range records {
		if r.Offset < l.next {
			continue
		}
		l.buf = append(l.buf, r)
		l.bytes += recordBytes(r)
	}
	if !l.paused && (len(l.buf) >= l.c.cfg.LaneRecords || l.bytes >= maxBytes) {
		l.paused = true
		l.c.cl.PauseFetchPartitions(l.partitions())
	}
	l.wake()
}

func (l *lane) wake() {
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

func (l *lane) partitions() map[string][]int32 {
	return map[string][]int32{l.tp.Topic: {l.tp.Partition}}
}

// cut takes a batch off the buffer. Without one it says how long to linger; 0 is until records come.
func (l *lane) cut() (records []*kgo.Record, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for n < len(l.buf) && n < l.c.cfg.BatchEvents && (n == 0 || bytes < l.c.cfg.BatchBytes) {
		bytes += recordBytes(l.buf[n])
		n++
	}
	if n == 0 {
		l.state = Idle
		return nil, 0
	}
	full := n < len(l.buf) || n == l.c.cfg.BatchEvents || bytes >= l.c.cfg.BatchBytes
	if wait = l.c.cfg.Linger - time.Since(l.since); !full && !l.paused && wait > 0 {
		return nil, wait
	}
	records = slices.Clone(l.buf[:n])
	clear(l.buf[:n]) // what the buffer's array still points to is not freed
	l.buf = l.buf[n:]
	l.bytes -= bytes
	l.since = time.Now()
	if len(l.buf) == 0 {
		l.buf = nil
	}
	l.resume()
	l.state = Working
	return records, 0
}

// resume goes on fetching when half of what the lane may hold is worked off.
func (l *lane) resume() {
	if l.paused && len(l.buf) <= l.c.cfg.LaneRecords/2 && l.bytes <= l.maxBytes/2 {
		l.paused = false
		l.c.cl.ResumeFetchPartitions(l.partitions())
	}
}

// close drops what the lane holds and lets the partition be fetched for the next owner.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked()
	l.cancel()
}

func (l *lane) dropLocked() {
	l.closed = true
	l.buf, l.bytes = nil, 0
	if l.paused {
		l.paused = false
		l.c.cl.ResumeFetchPartitions(l.partitions())
	}
}
