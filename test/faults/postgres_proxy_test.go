package faults

import (
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// refusing is a proxy that speaks PostgreSQL's protocol: what it is told to refuse it answers with an error, as a server that
// cannot would, and everything else it passes on.
type refusing struct {
	listener net.Listener
	upstream string
	serving  sync.WaitGroup

	mu      sync.Mutex // guards the following
	conns   map[net.Conn]bool
	code    string
	refused func(statement string) bool // nil: nothing is refused
	times   int                         // that something was refused since refuse
	held    *held                       // nil: nothing is held up
	lost    *lost                       // nil: no connection is to be lost
	silent  chan struct{}               // nil: everything passes; else closed when it does again
}

// held is a statement that is held up on its way to the server.
type held struct {
	wanted        func(statement string) bool
	come, goes    chan struct{}
	coming, going sync.Once
}

// wait waits until the statement is there.
func (h *held) wait(t *testing.T) {
	t.Helper()
	select {
	case <-h.come:
	case <-time.After(patience):
		t.Fatalf("after %v still waiting for the statement that is to be held up", patience)
	}
}

// release lets the statement go on.
func (h *held) release() { h.going.Do(func() { close(h.goes) }) }

// A connection being opened is the statement "".
func connecting(statement string) bool   { return statement == "" }
func anyStatement(statement string) bool { return statement != "" }

func containing(text string) func(string) bool {
	return func(statement string) bool { return strings.Contains(statement, text) }
}

// behindProxy has relays that are started from now on reach PostgreSQL through a proxy, and then through the gate.
func (w *world) behindProxy() *refusing {
	w.t.Helper()
	u, err := url.Parse(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	p := &refusing{listener: listener, upstream: u.Host, conns: map[net.Conn]bool{}}
	u.Host = listener.Addr().String()
	w.dsn = u.String()
	p.serving.Go(p.listen)
	w.t.Cleanup(func() {
		listener.Close()
		p.hangUp()
		p.serving.Wait()
	})
	return p
}

// refuse answers what is refused with an error of this SQLSTATE from now on.
func (p *refusing) refuse(code string, refused func(statement string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.refused, p.times = code, refused, 0
}

// serve passes everything on again.
func (p *refusing) serve() { p.refuse("", nil) }

// hangUp ends every connection.
func (p *refusing) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// waitRefused waits until something was refused so often.
func (p *refusing) waitRefused(t *testing.T, times int) {
	t.Helper()
	eventually(t, "it to try again and again", func() (bool, string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.times >= times, ""
	})
}

// hold holds up the statements that are wanted, from the first on.
func (p *refusing) hold(t *testing.T, wanted func(statement string) bool) *held {
	h := &held{wanted: wanted, come: make(chan struct{}), goes: make(chan struct{})}
	t.Cleanup(h.release)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = h
	return h
}

// holdUp returns when the statement may go on.
func (p *refusing) holdUp(statement string) {
	p.mu.Lock()
	h := p.held
	p.mu.Unlock()
	if h != nil && h.wanted(statement) {
		h.coming.Do(func() { close(h.come) })
		<-h.goes
	}
}

// swallow is a network that lets nothing through: not even that a client has gone. What was sent meanwhile is lost with its
// connection.
func (p *refusing) swallow(t *testing.T) (end func()) {
	silent := make(chan struct{})
	set := func(to chan struct{}) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.silent = to
	}
	set(silent)
	end = sync.OnceFunc(func() { set(nil); close(silent) })
	t.Cleanup(end)
	return end
}

// swallowed says that what came is lost, once the network is back.
func (p *refusing) swallowed() bool {
	p.mu.Lock()
	silent := p.silent
	p.mu.Unlock()
	if silent == nil {
		return false
	}
	<-silent
	return true
}

// lost is one connection whose packets are dropped from a statement on, in both directions, while all others go on.
type lost struct {
	wanted func(statement string) bool
	come   chan struct{}
}

// lose loses the connection on which the next statement comes that is wanted. What is returned is closed when it has come.
func (p *refusing) lose(wanted func(statement string) bool) (come <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = &lost{wanted, make(chan struct{})}
	return p.lost.come
}

// isLost says that a connection is lost with this statement.
func (p *refusing) isLost(statement string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == nil || !p.lost.wanted(statement) {
		return false
	}
	close(p.lost.come)
	p.lost = nil
	return true
}

// answer is what a statement is answered instead; nil if it is passed on.
func (p *refusing) answer(statement string) *pgproto3.ErrorResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil || !p.refused(statement) {
		return nil
	}
	p.times++
	severity := "ERROR"
	if statement == "" {
		severity = "FATAL"
	}
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: p.code, Message: "refused by the test"}
}

var errLost = errors.New("lost on the way")

func (p *refusing) listen() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.serving.Go(func() {
			defer p.forget(client)
			p.mu.Lock()
			p.conns[client] = true
			p.mu.Unlock()
			_ = p.pass(client) // a connection that broke is the relay's to notice
		})
	}
}

func (p *refusing) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	conn.Close()
}

// pass serves one connection.
func (p *refusing) pass(client net.Conn) error {
	from := pgproto3.NewBackend(client, client)
	startup, err := from.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if p.swallowed() {
		return errLost
	}
	if _, asked := startup.(*pgproto3.SSLRequest); asked {
		return errors.New("the test's servers speak no TLS")
	}
	_, opening := startup.(*pgproto3.StartupMessage) // the other is a request to cancel
	if e := p.answer(""); opening && e != nil {
		from.Send(e)
		return from.Flush()
	}
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := send(server, startup); err != nil {
		return err
	}
	p.serving.Go(func() { // ends with either connection
		defer client.Close()
		_, _ = io.Copy(client, server)
		p.swallowed() // nor does the client hear that the server has gone
	})
	return p.statements(client, from, server)
}

// statements passes on what a client asks. What is refused is answered at once, and what the client sends with it is dropped, as
// a server does after an error: a client waits for the end of an answer before it asks anew, so nobody else writes to it then.
func (p *refusing) statements(client net.Conn, from *pgproto3.Backend, server net.Conn) error {
	prepared := map[string]string{}
	failed := false
	for {
		msg, err := from.Receive()
		if err != nil {
			return err
		}
		if p.swallowed() {
			return errLost
		}
		statement := ""
		switch m := msg.(type) {
		case *pgproto3.Query:
			statement = m.String
		case *pgproto3.Parse:
			statement = m.Query
			prepared[m.Name] = m.Query
		case *pgproto3.Bind:
			statement = prepared[m.PreparedStatement]
		case *pgproto3.Sync:
			failed = false
		}
		if failed {
			continue
		}
		if statement != "" {
			p.holdUp(statement)
			if p.isLost(statement) {
				_, _ = io.Copy(io.Discard, client) // until the relay hangs up: the server does not hear of it before
				return errLost
			}
			if e := p.answer(statement); e != nil {
				from.Send(e)
				if _, simple := msg.(*pgproto3.Query); simple {
					from.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				} else {
					failed = true
				}
				if err := from.Flush(); err != nil {
					return err
				}
				continue
			}
		}
		if err := send(server, msg); err != nil {
			return err
		}
	}
}

func send(to net.Conn, msg pgproto3.FrontendMessage) error {
	raw, err := msg.Encode(nil)
	if err != nil {
		return err
	}
	_, err = to.Write(raw)
	return err
}
