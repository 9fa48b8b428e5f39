package faults

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	toxics.Register("kafka_requests", new(requestsToxic))
	toxics.Register("kafka_answers", new(answersToxic))
}

// wire reads the requests that pass a gate to Kafka. Armed, it waits for one, lets it pass or not, and from then on lets no
// answer through on any connection until it is disarmed; or it loses that one request, and nothing else.
type wire struct {
	deaf atomic.Bool // no answer passes

	mu sync.Mutex // guards the following
	// wanted says whether a request is the one; nil when not armed.
	wanted  func(kmsg.Request) bool
	pass    bool
	deafens bool
	tripped chan struct{}
	// late keeps the request until it is closed; nil for one that is not kept.
	late chan struct{}
	// seen counts requests by name.
	seen map[string]int
}

// Toxics are made from JSON; wires finds theirs by number.
var (
	wires   sync.Map // int64 to *wire
	wireNum atomic.Int64
)

func (g *gate) addWire() {
	g.t.Helper()
	n := wireNum.Add(1)
	g.wire = &wire{seen: map[string]int{}}
	wires.Store(n, g.wire)
	g.t.Cleanup(func() { wires.Delete(n) })
	g.toxic("kafka_requests", upstream, map[string]any{"wire": n})
	g.toxic("kafka_answers", downstream, map[string]any{"wire": n})
}

// arm waits for the first request that is wanted. pass says whether the broker gets it; its answer is lost either way. What is
// returned is closed when the request has come.
func (w *wire) arm(pass bool, wanted func(kmsg.Request) bool) (tripped <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted, w.pass, w.deafens, w.tripped = wanted, pass, true, make(chan struct{})
	return w.tripped
}

// lose has the first request that is wanted not reach the broker. What is returned is closed when it has come.
func (w *wire) lose(wanted func(kmsg.Request) bool) (tripped <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted, w.pass, w.deafens, w.tripped = wanted, false, false, make(chan struct{})
	return w.tripped
}

// delay keeps the first request that is wanted from the broker until release is called. come is closed when it has come.
func (w *wire) delay(wanted func(kmsg.Request) bool) (come <-chan struct{}, release func()) {
	late := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted, w.pass, w.deafens, w.tripped, w.late = wanted, true, false, make(chan struct{}), late
	return w.tripped, sync.OnceFunc(func() { close(late) })
}

// count returns how many requests of a kind have come.
func (w *wire) count(kind kmsg.Key) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[kind.Name()]
}

// disarm lets everything pass again.
func (w *wire) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = nil
	w.deaf.Store(false)
}

// nthOf is wanted for the nth request of a kind.
func nthOf(n int, kind kmsg.Key) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		if r.Key() == kind.Int16() {
			n--
		}
		return n == 0
	}
}

// commits is wanted for the request that commits a transaction.
func commits(r kmsg.Request) bool {
	end, ok := r.(*kmsg.EndTxnRequest)
	return ok && end.Commit
}

// request is called for every request; it says whether the request passes.
func (w *wire) request(frame []byte) bool {
	r, err := readRequest(frame)
	if err != nil {
		panic(fmt.Sprintf("a client sent what is no Kafka request: %v", err))
	}
	pass, late := w.judge(r)
	if late != nil {
		<-late
	}
	return pass
}

// judge says whether a request passes, and what it waits for before it does.
func (w *wire) judge(r kmsg.Request) (pass bool, late <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[kmsg.NameForKey(r.Key())]++
	if w.wanted == nil || !w.wanted(r) {
		return true, nil
	}
	w.wanted = nil
	w.deaf.Store(w.deafens)
	close(w.tripped)
	pass, late = w.pass, w.late
	w.late = nil
	return pass, late
}

// readRequest reads a request: its length, the header, and of those that tests look for the body.
func readRequest(frame []byte) (kmsg.Request, error) {
	const fixed = 4 + 2 + 2 + 4 + 2 // length, key, version, correlation, length of the client's id
	if len(frame) < fixed {
		return nil, fmt.Errorf("a request of %d bytes", len(frame))
	}
	r := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame[4:])))
	if r == nil {
		return nil, fmt.Errorf("request %x is unknown", frame[4:6])
	}
	r.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
	end, ok := r.(*kmsg.EndTxnRequest)
	if !ok {
		return r, nil
	}
	body := fixed + max(0, int(int16(binary.BigEndian.Uint16(frame[12:]))))
	if end.IsFlexible() {
		body++ // no tags
	}
	if body > len(frame) {
		return nil, fmt.Errorf("an EndTxn of %d bytes", len(frame))
	}
	return end, end.ReadFrom(frame[body:])
}

// requestsToxic passes whole requests on.
type requestsToxic struct {
	Wire int64 `json:"wire"`
}

// NewState makes what is kept for each connection: the beginning of the next request.
func (t *requestsToxic) NewState() any { return new([]byte) }

// Pipe implements toxics.Toxic.
func (t *requestsToxic) Pipe(stub *toxics.ToxicStub) {
	found, _ := wires.Load(t.Wire)
	w, buf := found.(*wire), stub.State.(*[]byte)
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			*buf = append(*buf, c.Data...)
			for frame := cutFrame(buf); frame != nil; frame = cutFrame(buf) {
				if w.request(frame) {
					stub.Output <- &stream.StreamChunk{Data: frame, Timestamp: c.Timestamp}
				}
			}
		}
	}
}

// cutFrame takes a whole request from the beginning of buf; nil if it is not whole yet.
func cutFrame(buf *[]byte) []byte {
	b := *buf
	if len(b) < 4 {
		return nil
	}
	n := 4 + int(binary.BigEndian.Uint32(b))
	if len(b) < n {
		return nil
	}
	*buf = b[n:]
	return b[:n:n]
}

// answersToxic passes answers on, unless the wire is deaf.
type answersToxic struct {
	Wire int64 `json:"wire"`
}

// Pipe implements toxics.Toxic.
func (t *answersToxic) Pipe(stub *toxics.ToxicStub) {
	found, _ := wires.Load(t.Wire)
	w := found.(*wire)
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			if !w.deaf.Load() {
				stub.Output <- c
			}
		}
	}
}
