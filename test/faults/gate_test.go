package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/millrace/millrace/test/harness"
)

// gate is a proxy before one server, for one world.
type gate struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	addr  string
	wire  *wire // of Kafka; nil for others
}

// newGate opens a gate on a port of its own.
func newGate(t *testing.T, name, upstream string) *gate {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return openGate(t, name, port, upstream)
}

func openGate(t *testing.T, name string, port int, upstream string) *gate {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	g := &gate{t: t, proxy: toxiproxy.NewProxy(server, name, addr, upstream), addr: addr}
	g.mend()
	t.Cleanup(g.proxy.Stop)
	return g
}

// cut ends every connection and refuses new ones until mend.
func (g *gate) cut() { g.proxy.Stop() }

// mend lets connections through again. While the gate is shut, whoever looks for a free port may hold its port for a moment.
func (g *gate) mend() {
	g.t.Helper()
	eventually(g.t, "the gate to "+g.proxy.Name+" to open", func() (bool, string) {
		err := g.proxy.Start()
		return err == nil, fmt.Sprint(err)
	})
}

// reset ends every connection once.
func (g *gate) reset() {
	g.t.Helper()
	g.cut()
	g.mend()
}

// Directions of a toxic.
const (
	upstream   = "upstream"   // what the relay sends
	downstream = "downstream" // what it is answered
)

// toxic adds a toxic of Toxiproxy for old and new connections, and returns what takes it away.
func (g *gate) toxic(kind, direction string, attributes map[string]any) (remove func()) {
	g.t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": direction, "toxicity": 1, "attributes": attributes})
	if err != nil {
		g.t.Fatal(err)
	}
	made, err := g.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	if err != nil {
		g.t.Fatalf("%s %s: %v", kind, text, err)
	}
	return func() {
		g.t.Helper()
		if err := g.proxy.Toxics.RemoveToxic(context.Background(), made.Name); err != nil {
			g.t.Fatalf("take %s away: %v", made.Name, err)
		}
	}
}

// swallow is a network that loses every byte in both directions and closes nothing; connections still open when it ends are
// closed.
func (g *gate) swallow() (end func()) {
	g.t.Helper()
	up, down := g.toxic("timeout", upstream, nil), g.toxic("timeout", downstream, nil)
	return func() { g.t.Helper(); up(); down() }
}
