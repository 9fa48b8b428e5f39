package harness

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaOptions says how a private broker differs from the shared one.
type KafkaOptions struct {
	Settings map[string]string // broker settings (server.properties)
	HeapMB   int               // heap of the server in MiB; 0: 512
	// AsShipped gives the server the heap and the collector that Kafka's own scripts give it (1 GiB, G1), for measurements.
	AsShipped bool
	// Proxies are ports of 127.0.0.1 on which proxies of the test's own listen.
	// The broker listens for each on a port of its own (ProxiedPorts) and tells
	// whoever comes that way to go on through that proxy.
	Proxies []int
	// Listeners are further listeners, each named as its protocol: SSL, SASL_SSL, SASL_PLAINTEXT. The plain one stays.
	Listeners []string
}

// KafkaProcess is a broker (and its controller, in one process) of one's own.
// Port and data stay the same over Stop, Kill and Start.
type KafkaProcess struct {
	KafkaBroker
	DataDir string // log.dirs
	Port    int
	// ProxiedPorts are the ports that the proxies of KafkaOptions forward to.
	ProxiedPorts []int
	// Listener is host:port of the further listeners by name.
	Listener map[string]string

	java, libs, config string
	controller         string   // host:port
	jvm                []string // heap and collector
	process            *Process
}

// asShipped is how Kafka's own scripts start a broker.
var asShipped = []string{"-server", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"}

// brokerSettings make one small node out of defaults meant for a cluster.
var brokerSettings = map[string]string{
	"process.roles":                                               "broker,controller",
	"node.id":                                                     "1",
	"controller.listener.names":                                   "CONTROLLER",
	"inter.broker.listener.name":                                  "PLAINTEXT",
	"listener.security.protocol.map":                              "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
	"num.partitions":                                              "4",
	"auto.create.topics.enable":                                   "false",
	"default.replication.factor":                                  "1",
	"min.insync.replicas":                                         "1",
	"offsets.topic.replication.factor":                            "1",
	"offsets.topic.num.partitions":                                "4",
	"transaction.state.log.replication.factor":                    "1",
	"transaction.state.log.min.isr":                               "1",
	"transaction.state.log.num.partitions":                        "4",
	"share.coordinator.state.topic.replication.factor":            "1",
	"share.coordinator.state.topic.min.isr":                       "1",
	"share.coordinator.state.topic.num.partitions":                "1",
	"group.initial.rebalance.delay.ms":                            "0",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
	"log.cleaner.dedupe.buffer.size":                              "16777216",
	"log.index.size.max.bytes":                                    "1048576",
	"num.network.threads":                                         "2",
	"num.io.threads":                                              "4",
	"num.recovery.threads.per.data.dir":                           "2",
}

// KafkaServer starts a broker for this test alone and stops it at its end. The
// test is skipped with -short.
func KafkaServer(t testing.TB, o KafkaOptions) *KafkaProcess {
	t.Helper()
	skipShort(t, "Kafka")
	s, err := startKafka(o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last output of kafka:\n%s", lastLines(s.Output(), 40))
		}
		s.discard()
		if !keepData() {
			os.RemoveAll(filepath.Dir(s.DataDir))
		}
	})
	return s
}

// KafkaServerOfPackage starts a broker that is neither the shared one nor one
// test's: it lives until Main returns. Call it once and keep what it returns. The
// test is skipped with -short.
func KafkaServerOfPackage(t testing.TB, o KafkaOptions) (*KafkaProcess, error) {
	t.Helper()
	skipShort(t, "Kafka")
	s, err := startKafka(o)
	if err == nil {
		stopAtEnd(s.discard)
	}
	return s, err
}

func startKafka(o KafkaOptions) (*KafkaProcess, error) {
	s := &KafkaProcess{jvm: []string{"-Xms128m", fmt.Sprintf("-Xmx%dm", cmp.Or(o.HeapMB, 512)), "-XX:+UseSerialGC"}}
	if o.AsShipped {
		s.jvm = asShipped
	}
	var err error
	if s.java, err = java("kafka"); err != nil {
		return nil, err
	}
	folder, err := mavenFolder("kafka")
	if err != nil {
		return nil, err
	}
	s.libs = filepath.Join(folder, "libs", "*")
	if err := s.configure(o); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// configure writes server.properties and formats the storage.
func (s *KafkaProcess) configure(o KafkaOptions) error {
	dir, err := workDir("kafka")
	if err != nil {
		return err
	}
	s.DataDir, s.config = filepath.Join(dir, "data"), filepath.Join(dir, "server.properties")
	if s.Port, err = FreePort(); err != nil {
		return err
	}
	controller, err := FreePort()
	if err != nil {
		return err
	}
	s.Brokers, s.controller = []string{loopback(s.Port)}, loopback(controller)
	listeners := "PLAINTEXT://" + loopback(s.Port) + ",CONTROLLER://" + s.controller

	all := maps.Clone(brokerSettings)
	s.Listener = map[string]string{}
	for _, name := range o.Listeners {
		port, err := FreePort()
		if err != nil {
			return err
		}
		s.Listener[name] = loopback(port)
		listeners += "," + name + "://" + loopback(port)
		all["listener.security.protocol.map"] += "," + name + ":" + name
	}
	all["listeners"], all["advertised.listeners"] = listeners, listeners
	if err := s.listenForProxies(all, o.Proxies); err != nil {
		return err
	}
	all["controller.quorum.bootstrap.servers"] = s.controller
	all["log.dirs"] = s.DataDir
	maps.Copy(all, o.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", name, all[name])
	}
	if err := os.WriteFile(s.config, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write server.properties: %w", err)
	}
	return s.format()
}

// listenForProxies adds a listener for each proxy, which advertises the proxy.
func (s *KafkaProcess) listenForProxies(settings map[string]string, proxies []int) error {
	for i, proxy := range proxies {
		port, err := FreePort()
		if err != nil {
			return err
		}
		s.ProxiedPorts = append(s.ProxiedPorts, port)
		name := fmt.Sprintf("PROXY%d", i)
		settings["listeners"] += "," + name + "://" + loopback(port)
		settings["advertised.listeners"] += "," + name + "://" + loopback(proxy)
		settings["listener.security.protocol.map"] += "," + name + ":PLAINTEXT"
	}
	return nil
}

func (s *KafkaProcess) format() error {
	id := make([]byte, 16)
	rand.Read(id)
	id[0] &= 0x7f // an id that starts with a dash would be read as a flag
	cmd := exec.Command(s.java, "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", s.libs, "kafka.tools.StorageTool",
		"format", "--standalone", "-t", base64.RawURLEncoding.EncodeToString(id), "-c", s.config)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format Kafka's storage: %w\n%s", err, tail(out, 2000))
	}
	return nil
}

func (s *KafkaProcess) start() error {
	p, err := start(Command{
		Path: s.java, Name: "kafka", Dir: filepath.Dir(s.config),
		Args: append(slices.Clone(s.jvm), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", s.libs, "kafka.Kafka", s.config),
	})
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(2*time.Minute, s.ping); err != nil {
		s.discard()
		return err
	}
	return nil
}

// ping asks for the metadata: one broker that is its own controller.
func (s *KafkaProcess) ping() error {
	cl, err := s.client(kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err != nil {
		return err
	}
	if len(brokers) == 0 {
		return fmt.Errorf("no broker is registered yet")
	}
	return nil
}

// discard ends a broker whose data nobody needs.
func (s *KafkaProcess) discard() { s.process.end(syscall.SIGKILL) }

// Output returns what the broker has logged (warnings and worse) since it was
// last started.
func (s *KafkaProcess) Output() string { return s.process.Output() }

// PID returns the broker's process id.
func (s *KafkaProcess) PID() int { return s.process.PID() }

// Stop shuts the broker down in order.
func (s *KafkaProcess) Stop(t testing.TB) { t.Helper(); s.process.Stop(t, time.Minute) }

// Kill ends the broker with SIGKILL.
func (s *KafkaProcess) Kill(t testing.TB) { t.Helper(); s.process.Kill(t) }

// FillDisk has every write of the broker to its disk fail, and waits until it has given up, as it does when the disk is full. There is
// room again when it is started. On Linux alone.
func (s *KafkaProcess) FillDisk(t testing.TB) {
	t.Helper()
	must(t, limitFiles(s.PID(), 1))
	s.process.Wait(t, time.Minute)
}

// Freeze stops the broker in its tracks, as a long pause would; Thaw lets it go on.
func (s *KafkaProcess) Freeze(t testing.TB) { t.Helper(); s.process.Freeze(t) }

// Thaw lets a frozen broker go on.
func (s *KafkaProcess) Thaw(t testing.TB) { t.Helper(); s.process.Thaw(t) }

// Start starts a broker that was stopped or killed and waits until it answers.
func (s *KafkaProcess) Start(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("start kafka: it runs already")
	}
	must(t, s.start())
}

// Restart stops the broker in order if it runs, and starts it.
func (s *KafkaProcess) Restart(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		s.Stop(t)
	}
	s.Start(t)
}
