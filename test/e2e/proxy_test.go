package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// proxy stands before a server of others: an address that can be away and come back while the server itself serves other tests.
type proxy struct {
	t      *testing.T
	addr   string // where it listens, when it does
	target string

	mu sync.Mutex // guards the following
	// listener is nil while the server is "away".
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

// newProxy makes one that is away.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, addr: fmt.Sprintf("127.0.0.1:%d", port), target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(p.away)
	return p
}

// back lets the server be reached.
func (p *proxy) back() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatalf("listen for a server to come back: %v", err)
	}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(c) })
		}
	})
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer to.Close()
	if !p.add(c, to) {
		return
	}
	var there sync.WaitGroup
	there.Go(func() {
		_, _ = io.Copy(to, c)
		to.Close()
	})
	_, _ = io.Copy(c, to)
	c.Close()
	there.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, to)
	p.mu.Unlock()
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return p.listener != nil
}

// away cuts every connection and refuses new ones.
func (p *proxy) away() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}
