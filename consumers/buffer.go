package consumers

import (
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
	if l.count == 0 {
		l.since = time.Now()
	}
	l.maxBytes = maxBytes
	for _, r := range records {
		if r.Offset < l.next {
			continue
		}
		l.buf = append(l.buf, r)
		l.count++
		l.bytes += recordBytes(r)
	}
	if !l.paused && (l.count >= l.c.cfg.LaneRecords || l.bytes >= maxBytes) {
		l.paused = true
		l.c.cl.PauseFetchPartitions(l.partitions())
	}
	wake(l.arrived)
}

func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func (l *lane) partitions() map[string][]int32 {
	return map[string][]int32{l.tp.Topic: {l.tp.Partition}}
}

// cut takes the batch that is decoded: what is there, up to a batch's bounds. Without one it says how long to linger; 0 is until
// something happens.
func (l *lane) cut() (b *Batch, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.ahead
	switch full := a.full(l.c.cfg); {
	case l.stand():
		return nil, 0, nil
	case a.records == 0 && a.err != nil:
		return nil, 0, a.err
	case a.records == 0:
		l.state = Idle
		return nil, 0, nil
	case !full && !a.held() && (a.busy || len(l.buf) > 0):
		return nil, 0, nil
	case !full && !a.held() && !l.paused:
		if wait = l.c.cfg.Linger - time.Since(l.since); wait > 0 {
			return nil, wait, nil
		}
	}
	b, records, bytes := l.takeDecoded()
	l.count -= records
	l.bytes -= bytes
	l.since = time.Now()
	l.resume()
	l.state = Working
	wake(l.arrived)
	return b, 0, nil
}

// resume goes on fetching when half of what the lane may hold is worked off.
func (l *lane) resume() {
	if l.paused && l.count <= l.c.cfg.LaneRecords/2 && l.bytes <= l.maxBytes/2 {
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
	l.buf, l.count, l.bytes = nil, 0, 0
	l.ahead.drop()
	wake(l.arrived)
	if l.paused {
		l.paused = false
		l.c.cl.ResumeFetchPartitions(l.partitions())
	}
}
