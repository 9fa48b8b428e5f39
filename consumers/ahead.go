package consumers

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ahead is the batch that is being decoded while the one before it is with the Processor. lane.mu guards it.
type ahead struct {
	events      []Event
	first, next int64 // the offset of the first record, and the one behind the last
	records     int
	bytes       int
	usual       int   // how many events the batch before had
	run         int   // counts what was dropped: what is decoded for an earlier run is nobody's
	busy        bool  // records are being decoded
	stuck       bool  // one cannot be decoded for now; what came before it need not wait
	err         error // one cannot be decoded, and trying again does not help
}

// decodeRun is the most records that are decoded in one go.
const decodeRun = 1000

// full says that the batch takes no more.
func (a *ahead) full(cfg Config) bool {
	return a.records >= cfg.BatchEvents || a.bytes >= cfg.BatchBytes
}

// held says that nothing will be added to the batch soon.
func (a *ahead) held() bool { return a.stuck || a.err != nil }

// reset begins the next batch.
func (a *ahead) reset() { a.usual, a.events, a.records, a.bytes = len(a.events), nil, 0, 0 }

// drop forgets what is decoded, and what is being decoded as well.
func (a *ahead) drop() { *a = ahead{run: a.run + 1, busy: a.busy} }

// decodeAhead decodes records as they come, until the lane is over.
func (l *lane) decodeAhead() {
	var s slab
	for {
		records, run := l.nextRecords()
		if len(records) == 0 {
			return
		}
		for len(records) > 0 {
			n, err := l.decode(records, run, &s)
			if records = records[n:]; err != nil && !l.unstick(records[0], run, err) {
				break
			}
		}
		l.rest()
	}
}

// nextRecords waits for records to decode, and takes as many as the batch has room for; none when the lane is over.
func (l *lane) nextRecords() (records []*kgo.Record, run int) {
	for l.over() == nil {
		if records, run = l.begin(); len(records) > 0 {
			return records, run
		}
		select {
		case <-l.arrived:
		case <-l.drained:
		case <-l.ctx.Done():
		}
	}
	return nil, 0
}

func (l *lane) begin() (records []*kgo.Record, run int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, cfg := &l.ahead, l.c.cfg
	n, bytes := 0, 0
	for n < min(len(l.buf), decodeRun) && a.err == nil && a.records+n < cfg.BatchEvents && a.bytes+bytes < cfg.BatchBytes {
		bytes += recordBytes(l.buf[n])
		n++
	}
	if n == 0 {
		return nil, 0
	}
	if a.events == nil {
		a.events = make([]Event, 0, min(max(len(l.buf), a.usual), cfg.BatchEvents))
	}
	records = slices.Clone(l.buf[:n])
	clear(l.buf[:n]) // what the buffer's array still points to is not freed
	if l.buf = l.buf[n:]; len(l.buf) == 0 {
		l.buf = nil
	}
	a.busy = true
	return records, a.run
}

// decode decodes records into the batch and returns how many it could. Nobody else touches the batch's events meanwhile: cut waits
// as long as busy is set and stuck is not.
func (l *lane) decode(records []*kgo.Record, run int, s *slab) (n int, err error) {
	l.mu.Lock()
	events := l.ahead.events
	l.mu.Unlock()
	bytes := 0
	for ; n < len(records); n++ {
		if r := records[n]; !r.Attrs.IsControl() {
			events = append(events, Event{})
			if err = l.c.dec.decode(l.ctx, r, &events[len(events)-1], s, len(records)-n); err != nil {
				events = events[:len(events)-1]
				break
			}
		}
		bytes += recordBytes(records[n])
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.ahead
	if n == 0 || a.run != run {
		return n, err
	}
	if a.records == 0 {
		a.first = records[0].Offset
	}
	a.events, a.next = events, records[n-1].Offset+1
	a.records, a.bytes = a.records+n, a.bytes+bytes
	return n, err
}

// unstick tries until the registry can be asked for what a record needs, or says that it cannot be. Meanwhile what was decoded
// before goes its way.
func (l *lane) unstick(r *kgo.Record, run int, err error) bool {
	l.setStuck(run, true)
	first := true
	err = l.c.retryUntil(l.ctx, l.drained, outageDecode, l.tp, func() {}, func(ctx context.Context) error {
		if first {
			first = false
			return fmt.Errorf("decode offset %d: %w", r.Offset, err)
		}
		if l.runOf() != run {
			return nil // nobody wants the record any more
		}
		if _, err := l.c.dec.Decode(ctx, r); err != nil {
			return fmt.Errorf("decode offset %d: %w", r.Offset, err)
		}
		return nil
	})
	l.setStuck(run, false)
	if err == nil {
		return l.runOf() == run
	}
	if l.over() == nil {
		l.mu.Lock()
		if l.ahead.run == run {
			l.ahead.err = err
		}
		l.mu.Unlock()
	}
	return false
}

func (l *lane) runOf() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ahead.run
}

func (l *lane) setStuck(run int, stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ahead.run == run {
		l.ahead.stuck = stuck
	}
	wake(l.signal)
}

// rest says that the records in hand are decoded, or given up.
func (l *lane) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead.busy = false
	wake(l.signal)
}
