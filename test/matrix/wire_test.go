package matrix

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// point is a moment on the way of a batch into a store, told by what goes over the wire.
type point struct {
	name string
	// request is what a process sends; the bytes are held before they reach the store, unless reply is set.
	request string
	// reply is what the store answers after request; the bytes are held before they reach the process.
	reply string
}

// points are those of each kind: nothing written but the position, rows written, all but the end, and all but the answer. Where a
// store has no transactions the position is what comes last.
var points = map[string][]point{
	"postgres": {
		{name: "position", request: "\x00millrace_bronze\x00"},
		{name: "insert", request: "\x00millrace_upsert_account\x00"},
		{name: "commit", request: "\x00millrace_commit\x00"},
		{name: "ack", request: "\x00millrace_commit\x00", reply: "COMMIT\x00"},
	},
	"opensearch": {
		{name: "insert", request: "/_bulk?"},
		{name: "position", request: "PUT /"},
		{name: "ack", request: "PUT /", reply: "HTTP/1.1 2"},
	},
	"redis": {
		{name: "commit", request: "evalsha"},
		{name: "ack", request: "evalsha", reply: "OK"},
	},
	"webhook": {
		{name: "send", request: "POST /"},
		{name: "ack", request: "POST /", reply: "HTTP/1.1 2"},
	},
}

// wire stands between a process and its store. It can be cut, and hold what is on it at a point.
type wire struct {
	t            *testing.T
	addr, target string

	mu       sync.Mutex // guards the following
	listener net.Listener
	conns    map[net.Conn]bool
	armed    *trap
	running  sync.WaitGroup
}

// trap is a point that is waited for. It falls once.
type trap struct {
	point
	fall   func()        // called when it is reached; nothing goes on before it returns
	fallen chan struct{} // closed after that
	resume chan struct{} // closed by whoever lets the held bytes go on
	taken  atomic.Bool   // somebody holds it
}

// hold lets the trap fall, and returns when what is held may go on. It holds one connection and lets others pass.
func (t *trap) hold() {
	if t.taken.Swap(true) {
		return
	}
	select {
	case <-t.resume: // nobody waits for it any more
		return
	default:
	}
	t.fall()
	close(t.fallen)
	<-t.resume
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	w.listen(l)
	t.Cleanup(func() {
		w.disarm()
		w.cut()
		w.running.Wait()
	})
	return w
}

func (w *wire) listen(l net.Listener) {
	w.mu.Lock()
	w.listener = l
	w.mu.Unlock()
	w.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.serve(c) })
		}
	})
}

// cut ends every connection and refuses new ones.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil {
		w.listener.Close()
		w.listener = nil
	}
	for c := range w.conns {
		c.Close()
	}
}

// mend lets the store be reached again.
func (w *wire) mend() {
	w.t.Helper()
	l, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.listen(l)
}

// arm sets a trap.
func (w *wire) arm(p point, fall func()) *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = &trap{point: p, fall: fall, fallen: make(chan struct{}), resume: make(chan struct{})}
	return w.armed
}

// disarm lets go what is held.
func (w *wire) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed != nil {
		close(w.armed.resume)
	}
	w.armed = nil
}

func (w *wire) trap() *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.armed
}

func (w *wire) serve(c net.Conn) {
	defer c.Close()
	to, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer to.Close()
	w.mu.Lock()
	open := w.listener != nil
	w.conns[c], w.conns[to] = true, true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		delete(w.conns, to)
		w.mu.Unlock()
	}()
	if !open {
		return
	}
	l := &link{w: w}
	var there sync.WaitGroup
	there.Go(func() {
		l.copy(to, c, l.request)
		to.Close()
	})
	l.copy(c, to, l.reply)
	c.Close()
	there.Wait()
}

// link is one connection.
type link struct {
	w *wire

	mu    sync.Mutex // guards the following
	asked *trap      // whose request went over this connection
}

// copy passes bytes on; look says how many of them go before a trap.
func (l *link) copy(to, from net.Conn, look func(tail, chunk []byte) (int, *trap)) {
	buf := make([]byte, 64<<10)
	var tail []byte
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		chunk := buf[:n]
		if at, trap := look(tail, chunk); trap != nil {
			if _, err := to.Write(chunk[:at]); err != nil {
				return
			}
			trap.hold()
			chunk = chunk[at:]
		}
		if _, err := to.Write(chunk); err != nil {
			return
		}
		tail = append(tail[:0], buf[max(0, n-longest):n]...)
	}
}

// longest is the length of the longest text of a point.
const longest = 32

// find is where a text that ends in a chunk begins in it: 0 if it began in what came before.
func find(tail, chunk []byte, text string) int {
	tail = tail[max(0, len(tail)-len(text)+1):]
	i := bytes.Index(append(tail[:len(tail):len(tail)], chunk...), []byte(text))
	if i < 0 {
		return -1
	}
	return max(0, i-len(tail))
}

func (l *link) request(tail, chunk []byte) (int, *trap) {
	t := l.w.trap()
	if t == nil {
		return 0, nil
	}
	at := find(tail, chunk, t.point.request)
	switch {
	case at < 0:
		return 0, nil
	case t.point.reply == "":
		return at, t
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = t
	return 0, nil
}

func (l *link) reply(tail, chunk []byte) (int, *trap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil || find(tail, chunk, l.asked.point.reply) < 0 {
		return 0, nil
	}
	t := l.asked
	l.asked = nil
	return 0, t
}
