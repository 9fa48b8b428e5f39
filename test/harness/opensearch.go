package harness

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ports on which the program that starts OpenSearch lets it serve HTTP: that program adds one to what it is told and goes no further than
// 9299.
const (
	firstOpenSearchPort = 9201
	lastOpenSearchPort  = 9299
)

// OpenSearchOptions says how a private server differs from the shared one.
type OpenSearchOptions struct {
	HeapMB int // heap of the server in MiB; 0: 512
	// Optimised has the server's code compiled and its garbage collected as on a production machine: faster when warm, and slower to start. For measurements.
	Optimised bool
}

// openSearchGC is how OpenSearch ships: with the collector that is here otherwise the heap fills up to where requests are refused (429).
var openSearchGC = []string{"-XX:+UseG1GC", "-XX:G1ReservePercent=25", "-XX:InitiatingHeapOccupancyPercent=30"}

// OpenSearchProcess is an OpenSearch node of one's own. Port and data stay the
// same over Stop, Kill and Start.
type OpenSearchProcess struct {
	URL  string // http:// URL without a path
	Dir  string // the server's folder
	Port int

	java, libs string
	jvm        []string
	credential *syscall.Credential
	process    *Process
}

var sharedOpenSearch = &shared{env: OpenSearchEnv, onDemand: true, start: func() (string, func(), error) {
	server, err := startOpenSearch(OpenSearchOptions{})
	if err != nil {
		return "", nil, err
	}
	return server.URL, server.Close, nil
}}

// OpenSearch returns the URL of the shared OpenSearch node. Its indices are
// everybody's: begin their names with Unique and delete them in the end. It is
// started on first use, for few tests need it. The test is skipped with -short.
func OpenSearch(t testing.TB) string {
	t.Helper()
	skipShort(t, "OpenSearch")
	url, err := sharedOpenSearch.get()
	must(t, err)
	return url
}

// OpenSearchServer starts a node for this test alone and stops it at its end.
// The test is skipped with -short.
func OpenSearchServer(t testing.TB, o OpenSearchOptions) *OpenSearchProcess {
	t.Helper()
	skipShort(t, "OpenSearch")
	s, err := startOpenSearch(o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last output of opensearch:\n%s", lastLines(s.Output(), 40))
		}
		s.Close()
	})
	return s
}

// StartOpenSearch starts a node for a program that is no test. Close stops it.
func StartOpenSearch(o OpenSearchOptions) (*OpenSearchProcess, error) { return startOpenSearch(o) }

func startOpenSearch(o OpenSearchOptions) (*OpenSearchProcess, error) {
	heap := cmp.Or(o.HeapMB, 512)
	s := &OpenSearchProcess{jvm: []string{fmt.Sprintf("-Xms%dm", heap), fmt.Sprintf("-Xmx%dm", heap)}}
	if o.Optimised {
		s.jvm = append(s.jvm, openSearchGC...)
	} else {
		s.jvm = append(s.jvm, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
	}
	var err error
	if s.java, err = java("opensearch"); err != nil {
		return nil, err
	}
	// It refuses to run as root, as PostgreSQL does.
	if s.credential, err = serverUser("OpenSearch"); err != nil {
		return nil, err
	}
	cache, err := openCache()
	if err != nil {
		return nil, err
	}
	folder, err := mavenFolderIn(cache, "opensearch")
	if err != nil {
		return nil, err
	}
	s.libs = filepath.Join(folder, "libs", "*")
	if err := s.configure(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// configure writes opensearch.yml, which the node reads beside what it is told.
func (s *OpenSearchProcess) configure() error {
	var err error
	if s.Dir, err = workDir("opensearch"); err != nil {
		return err
	}
	if s.Port, err = openSearchPort(); err != nil {
		return err
	}
	s.URL = "http://" + loopback(s.Port)
	transport, err := FreePort()
	if err != nil {
		return err
	}
	config := filepath.Join(s.Dir, "config")
	if err := os.Mkdir(config, 0o755); err != nil {
		return fmt.Errorf("make the folder of opensearch.yml: %w", err)
	}
	settings := strings.Join([]string{
		"network.host: 127.0.0.1", "transport.port: " + strconv.Itoa(transport), "discovery.type: single-node",
		"cluster.routing.allocation.disk.threshold_enabled: false", // a full disk of the machine's owner is not what is tested
		"cluster.max_shards_per_node: 10000", "",
	}, "\n")
	if err := os.WriteFile(filepath.Join(config, "opensearch.yml"), []byte(settings), 0o644); err != nil {
		return fmt.Errorf("write opensearch.yml: %w", err)
	}
	if s.credential == nil {
		return nil
	}
	for _, dir := range []string{s.Dir, config} {
		if err := os.Chown(dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return fmt.Errorf("give %s to the server's user: %w", dir, err)
		}
	}
	return nil
}

// openSearchPort is FreePort in the range that there is.
func openSearchPort() (int, error) {
	for range 500 {
		port := firstOpenSearchPort + rand.IntN(lastOpenSearchPort-firstOpenSearchPort+1)
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1 from %d to %d", firstOpenSearchPort, lastOpenSearchPort)
}

func (s *OpenSearchProcess) start() error {
	args := append([]string{}, s.jvm...)
	p, err := start(Command{
		Path: s.java, Name: "opensearch", Dir: s.Dir, credential: s.credential,
		Args: append(args, "-cp", s.libs, "org.codelibs.opensearch.runner.OpenSearchRunner", "-basePath", s.Dir,
			"-confPath", filepath.Join(s.Dir, "config"), "-numOfNode", "1", "-baseHttpPort", strconv.Itoa(s.Port-1),
			"-clusterName", "millrace-test-"+strconv.Itoa(s.Port), "-printOnFailure"),
	})
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(3*time.Minute, s.healthy); err != nil {
		p.end(syscall.SIGKILL)
		return err
	}
	return nil
}

// healthy asks whether the node has a cluster, which is ours: somebody else may have taken the port meanwhile.
func (s *OpenSearchProcess) healthy() error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(s.URL + "/_cluster/health")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var health struct {
		Cluster string `json:"cluster_name"`
		Status  string `json:"status"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&health)
	switch {
	case err != nil:
		return err
	case health.Cluster != "millrace-test-"+strconv.Itoa(s.Port):
		return fmt.Errorf("another cluster answers: %q", health.Cluster)
	case health.Status == "red":
		return errors.New("the cluster is red")
	}
	return nil
}

// Output returns what the server has logged since it was last started.
func (s *OpenSearchProcess) Output() string { return s.process.Output() }

// PID returns the server's process id.
func (s *OpenSearchProcess) PID() int { return s.process.PID() }

// Version returns the server's version.
func (s *OpenSearchProcess) Version() string {
	const name = "opensearch-"
	for _, jar := range glob(filepath.Join(filepath.Dir(s.libs), name+"[0-9]*.jar")) {
		return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jar), name), ".jar")
	}
	return "unknown"
}

// Stop shuts the server down in order.
func (s *OpenSearchProcess) Stop(t testing.TB) { t.Helper(); s.process.Stop(t, time.Minute) }

// Kill ends the server with SIGKILL.
func (s *OpenSearchProcess) Kill(t testing.TB) { t.Helper(); s.process.Kill(t) }

// Freeze stops the server in its tracks; Thaw lets it go on.
func (s *OpenSearchProcess) Freeze(t testing.TB) { t.Helper(); s.process.Freeze(t) }

// Thaw lets a frozen server go on.
func (s *OpenSearchProcess) Thaw(t testing.TB) { t.Helper(); s.process.Thaw(t) }

// Start starts a server that was stopped or killed and waits until it answers; it finds its data.
func (s *OpenSearchProcess) Start(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("start opensearch: it runs already")
	}
	must(t, s.start())
}

// Close stops the server and removes its data.
func (s *OpenSearchProcess) Close() {
	s.process.end(syscall.SIGKILL)
	s.discard()
}

func (s *OpenSearchProcess) discard() {
	if !keepData() {
		os.RemoveAll(s.Dir)
	}
}
