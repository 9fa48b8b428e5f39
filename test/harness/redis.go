package harness

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisDatabases is how many numbered databases the shared server has. Number 0
// holds the counter from which tests take theirs.
const redisDatabases = 4096

// RedisDB is one empty numbered database that belongs to one test.
type RedisDB struct {
	URL string // redis:// URL with the database's number
}

// RedisProcess is a Redis server of one's own. It keeps its port over Stop, Kill
// and Start, and forgets its data.
type RedisProcess struct {
	URL  string // redis:// URL of database 0
	Port int

	path    string
	process *Process
}

var sharedRedis = &shared{env: RedisEnv, start: func() (string, func(), error) {
	server, err := startRedis()
	if err != nil {
		return "", nil, err
	}
	return server.address(), func() { server.process.end(syscall.SIGKILL) }, nil
}}

// Redis returns an empty database on the shared server, emptied again at the end
// of the test.
func Redis(t testing.TB) *RedisDB {
	t.Helper()
	address, err := sharedRedis.get()
	must(t, err)
	address = strings.TrimSuffix(address, "/")
	number, err := nextRedisDatabase(t.Context(), address)
	must(t, err)
	db := &RedisDB{URL: address + "/" + strconv.Itoa(number)}
	client := db.Client(t)
	if err := client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatalf("empty Redis database %d: %v", number, err)
	}
	t.Cleanup(func() { client.FlushDB(context.Background()) })
	return db
}

func nextRedisDatabase(ctx context.Context, address string) (int, error) {
	opts, err := redis.ParseURL(address)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", RedisEnv, err)
	}
	client := redis.NewClient(opts)
	defer client.Close()
	n, err := client.Incr(ctx, "millrace:test:databases").Result()
	if err != nil {
		return 0, fmt.Errorf("take a Redis database: %w", err)
	}
	return 1 + int(n%(redisDatabases-1)), nil
}

// Client returns a client that is closed at the end of the test.
func (db *RedisDB) Client(t testing.TB) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(db.URL)
	must(t, err)
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

// RedisServer starts a server for this test alone and stops it at its end.
func RedisServer(t testing.TB) *RedisProcess {
	t.Helper()
	s, err := startRedis()
	must(t, err)
	t.Cleanup(func() { s.process.end(syscall.SIGKILL) })
	return s
}

func startRedis() (*RedisProcess, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, &MissingError{Part: "redis", Reason: "redis-server is not installed", Install: "apt-get install -y redis-server"}
	}
	s := &RedisProcess{path: path}
	if s.Port, err = FreePort(); err != nil {
		return nil, err
	}
	s.URL = s.address() + "/0"
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *RedisProcess) address() string { return "redis://" + loopback(s.Port) }

func (s *RedisProcess) start() error {
	dir, err := workDir("redis")
	if err != nil {
		return err
	}
	p, err := start(Command{
		Path: s.path, Name: "redis", Dir: dir,
		Args: []string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
			"--databases", strconv.Itoa(redisDatabases)},
	})
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(30*time.Second, s.ping); err != nil {
		p.end(syscall.SIGKILL)
		return err
	}
	return nil
}

func (s *RedisProcess) ping() error {
	client := redis.NewClient(&redis.Options{Addr: loopback(s.Port), MaxRetries: -1})
	defer client.Close()
	return client.Ping(context.Background()).Err()
}

// Output returns what the server has logged since it was last started.
func (s *RedisProcess) Output() string { return s.process.Output() }

// Stop shuts the server down in order.
func (s *RedisProcess) Stop(t testing.TB) { t.Helper(); s.process.Stop(t, 30*time.Second) }

// Kill ends the server with SIGKILL.
func (s *RedisProcess) Kill(t testing.TB) { t.Helper(); s.process.Kill(t) }

// Freeze stops the server in its tracks; Thaw lets it go on.
func (s *RedisProcess) Freeze(t testing.TB) { t.Helper(); s.process.Freeze(t) }

// Thaw lets a frozen server go on.
func (s *RedisProcess) Thaw(t testing.TB) { t.Helper(); s.process.Thaw(t) }

// Start starts a server that was stopped or killed, empty.
func (s *RedisProcess) Start(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("start redis: it runs already")
	}
	must(t, s.start())
}

// StartRedis starts a server for a program that is no test. Close stops it.
func StartRedis() (*RedisProcess, error) { return startRedis() }

// PID returns the server's process id.
func (s *RedisProcess) PID() int { return s.process.PID() }

// Close stops the server.
func (s *RedisProcess) Close() { s.process.end(syscall.SIGKILL) }
