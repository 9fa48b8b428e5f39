package harness

import (
	"os"
	"sync"
	"testing"
)

// Environment variables under which a run names servers that are started
// already, so that every test binary uses the same. cmd/servers sets them; set by
// hand they point the tests at servers of one's own.
const (
	PostgresEnv = "MILLRACE_TEST_POSTGRES" // postgres:// URL of a superuser
	KafkaEnv    = "MILLRACE_TEST_KAFKA"    // host:port,...
	RegistryEnv = "MILLRACE_TEST_REGISTRY" // http:// URL of the Confluent-compatible API
	RedisEnv    = "MILLRACE_TEST_REDIS"    // redis:// URL without a database
	// OpenSearchEnv names an http:// URL without a path.
	OpenSearchEnv = "MILLRACE_TEST_OPENSEARCH"
)

// shared is a server for all tests of this process: the one that the
// environment names, or one started on first use.
type shared struct {
	env   string
	start func() (address string, stop func(), err error)
	// onDemand: few tests need it, so that a run does not start it for all; a test binary that needs it starts one.
	onDemand bool

	mu sync.Mutex
	// mu guards the following
	address string
	stop    func()
	err     error // a start that failed is not tried again
}

func (s *shared) get() (string, error) {
	if address := os.Getenv(s.env); address != "" {
		return address, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" && s.err == nil {
		s.address, s.stop, s.err = s.start()
	}
	return s.address, s.err
}

func (s *shared) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
	}
	s.address, s.stop = "", nil
}

// all lists the shared servers by the names that summaries use.
var all = map[string]*shared{
	"postgres":   sharedPostgres,
	"kafka":      sharedKafka,
	"registry":   sharedRegistry,
	"redis":      sharedRedis,
	"opensearch": sharedOpenSearch,
}

// Main runs the tests of a package and stops what they shared:
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// Without it the servers stop as well, by the death of their parent, but leave
// their folder behind until the next run sweeps it.
func Main(m *testing.M) {
	code := m.Run()
	stopAll()
	os.Exit(code)
}

// atEnd are stopped by Main beside the shared servers.
var atEnd struct {
	sync.Mutex // guards the following
	stops      []func()
}

func stopAtEnd(stop func()) {
	atEnd.Lock()
	defer atEnd.Unlock()
	atEnd.stops = append(atEnd.stops, stop)
}

func stopAll() {
	var stopping sync.WaitGroup
	atEnd.Lock()
	defer atEnd.Unlock()
	for _, stop := range atEnd.stops {
		stopping.Go(stop)
	}
	for _, s := range all {
		stopping.Go(s.close)
	}
	stopping.Wait()
	closeWork()
}
