package faults

import (
	"flag"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/millrace/millrace/test/harness"
)

// lanes is how many worlds one broker serves through gates at the same time.
const lanes = 8

// parallel is how many tests run at the same time unless -parallel says otherwise: they wait more than they work.
const parallel = 6

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics write to the global logger
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
			panic(err)
		}
	}
	harness.Main(m)
}

// broker is a broker of this package's own. It advertises to each world the gate of that world: a client that came through a
// gate stays behind it.
type broker struct {
	*harness.KafkaProcess
	gates  []int // ports
	free   chan int
	absent sync.Once // a broker that never comes up is added
}

// prepareBroker picks the ports of the gates.
func prepareBroker(t *testing.T, lanes int, o *harness.KafkaOptions) *broker {
	t.Helper()
	b := &broker{free: make(chan int, lanes)}
	for lane := range lanes {
		port, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		b.gates = append(b.gates, port)
		b.free <- lane
	}
	o.Proxies, o.HeapMB = b.gates, 384
	if o.Settings == nil {
		o.Settings = map[string]string{}
	}
	o.Settings["num.network.threads"] = "1" // for each listener
	return b
}

// privateBroker is a broker of this test alone.
func privateBroker(t *testing.T) *broker {
	t.Helper()
	var o harness.KafkaOptions
	b := prepareBroker(t, 1, &o)
	b.KafkaProcess = harness.KafkaServer(t, o)
	return b
}

var packageBroker struct {
	sync.Mutex // guards the following
	broker     *broker
	err        error
}

// sharedBroker is the broker of those tests that neither kill nor freeze it.
func sharedBroker(t *testing.T) *broker {
	t.Helper()
	packageBroker.Lock()
	defer packageBroker.Unlock()
	if packageBroker.broker == nil && packageBroker.err == nil {
		var o harness.KafkaOptions
		b := prepareBroker(t, lanes, &o)
		b.KafkaProcess, packageBroker.err = harness.KafkaServerOfPackage(t, o)
		packageBroker.broker = b
	}
	if packageBroker.err != nil {
		t.Fatal(packageBroker.err)
	}
	return packageBroker.broker
}

// gate opens a gate to the broker for the length of the test.
func (b *broker) gate(t *testing.T) *gate {
	t.Helper()
	lane := <-b.free
	t.Cleanup(func() { b.free <- lane }) // after the gate is closed
	g := openGate(t, "kafka", b.gates[lane], net.JoinHostPort("127.0.0.1", strconv.Itoa(b.ProxiedPorts[lane])))
	g.addWire()
	return g
}
