package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says how a private server differs from the shared one.
type PostgresOptions struct {
	Settings map[string]string // postgresql.conf settings, such as "fsync": "off"
}

// PostgresProcess is a PostgreSQL server of one's own. Port and data stay the
// same over Stop, CrashStop, Kill and Start.
type PostgresProcess struct {
	DSN     string // postgres:// URL of a superuser, database "postgres"
	DataDir string // the server's data directory
	Port    int

	bin        string
	settings   map[string]string
	credential *syscall.Credential
	process    *Process
}

// testSettings suit many short tests on one small machine. fsync stays on: the
// relay refuses to read from a server that does without.
var testSettings = map[string]string{
	"listen_addresses":               "127.0.0.1",
	"unix_socket_directories":        "",
	"max_connections":                "200",
	"shared_buffers":                 "256MB",
	"max_wal_size":                   "2GB",
	"checkpoint_timeout":             "30min",
	"autovacuum_naptime":             "10s",
	"timezone":                       "UTC",
	"log_line_prefix":                "%m [%p] %d ",
	"shared_memory_type":             "mmap",
	"wal_recycle":                    "on",
	"max_parallel_workers":           "2",
	"log_min_error_statement":        "panic",
	"superuser_reserved_connections": "5",
}

// PostgresServer starts a server for this test alone and stops it at its end.
func PostgresServer(t testing.TB, o PostgresOptions) *PostgresProcess {
	t.Helper()
	s, err := startPostgres(o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last output of postgres:\n%s", lastLines(s.Output(), 40))
		}
		s.stop()
		if !keepData() {
			os.RemoveAll(filepath.Dir(s.DataDir))
		}
	})
	return s
}

// startPostgres makes a cluster and starts it. Every cluster is made by initdb,
// never copied: a copy would have the same system identifier.
func startPostgres(o PostgresOptions) (*PostgresProcess, error) {
	s := &PostgresProcess{settings: maps.Clone(testSettings)}
	maps.Copy(s.settings, o.Settings)
	var err error
	if s.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if s.credential, err = postgresUser(); err != nil {
		return nil, err
	}
	dir, err := workDir("postgres")
	if err != nil {
		return nil, err
	}
	s.DataDir = filepath.Join(dir, "data")
	if s.credential != nil {
		if err := os.Chown(dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return nil, fmt.Errorf("give %s to the server's user: %w", dir, err)
		}
	}
	if err := s.initdb(dir); err != nil {
		return nil, err
	}
	if s.Port, err = FreePort(); err != nil {
		return nil, err
	}
	s.DSN = "postgres://postgres@" + loopback(s.Port) + "/postgres?sslmode=disable"
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *PostgresProcess) initdb(dir string) error {
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.DataDir, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, tail(out, 2000))
	}
	return nil
}

func (s *PostgresProcess) start() error {
	args := []string{"-D", s.DataDir, "-p", strconv.Itoa(s.Port)}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	p, err := start(Command{
		Path: filepath.Join(s.bin, "postgres"), Args: args, Dir: filepath.Dir(s.DataDir), Name: "postgres",
		credential: s.credential,
		// An immediate shutdown: SIGKILL would leave shared memory behind.
		deathSignal: syscall.SIGQUIT,
	})
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(60*time.Second, s.ping); err != nil {
		p.end(syscall.SIGQUIT)
		return err
	}
	return nil
}

func (s *PostgresProcess) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// stop ends a server whose data nobody needs. The postmaster itself kills what
// does not follow it within 5 s, such as a process that a test has frozen.
func (s *PostgresProcess) stop() { s.process.end(syscall.SIGQUIT) }

// Database makes an empty database for this test.
func (s *PostgresProcess) Database(t testing.TB) *PostgresDB {
	t.Helper()
	return newDatabase(t, s.DSN)
}

// Output returns what the server has logged since it was last started.
func (s *PostgresProcess) Output() string { return s.process.Output() }

// WaitLine waits for a line of the log, from the server's last start on.
func (s *PostgresProcess) WaitLine(t testing.TB, text string, timeout time.Duration) string {
	t.Helper()
	return s.process.WaitLine(t, text, timeout)
}

// PID returns the postmaster's process id.
func (s *PostgresProcess) PID() int { return s.process.PID() }

// Stop shuts the server down in order (pg_ctl's "fast"); a later Start or
// Restart finds its data.
func (s *PostgresProcess) Stop(t testing.TB) { t.Helper(); s.halt(t, syscall.SIGINT) }

// CrashStop shuts the server down at once (pg_ctl's "immediate"): nothing more
// is written, and the next start recovers from the write-ahead log.
func (s *PostgresProcess) CrashStop(t testing.TB) { t.Helper(); s.halt(t, syscall.SIGQUIT) }

// Kill ends the postmaster and every process of the server with SIGKILL.
func (s *PostgresProcess) Kill(t testing.TB) {
	t.Helper()
	children, err := childrenOf(s.PID())
	must(t, err)
	s.process.Signal(t, syscall.SIGKILL)
	for _, pid := range children {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("kill backend %d: %v", pid, err)
		}
	}
	s.process.Wait(t, 30*time.Second)
	must(t, gone(children, 30*time.Second))
}

func (s *PostgresProcess) halt(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.process.Signal(t, sig)
	s.process.Wait(t, 60*time.Second)
}

// Start starts a server that was stopped or killed and waits until it answers.
func (s *PostgresProcess) Start(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("start postgres: it runs already")
	}
	must(t, s.start())
}

// Restart stops the server in order if it runs, and starts it.
func (s *PostgresProcess) Restart(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		s.Stop(t)
	}
	s.Start(t)
}

// Set changes a setting from the next start on.
func (s *PostgresProcess) Set(name, value string) { s.settings[name] = value }

// Backend returns the process id of the server's only process of that type, as
// pg_stat_activity calls it: "walwriter", "checkpointer", "background writer".
func (s *PostgresProcess) Backend(t testing.TB, backendType string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	must(t, err)
	defer conn.Close(context.Background())
	var pid int
	err = conn.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE backend_type = $1", backendType).Scan(&pid)
	if err != nil {
		t.Fatalf("find the %s of postgres: %v", backendType, err)
	}
	return pid
}

// SignalBackend sends sig to a process of the server found by Backend.
func (s *PostgresProcess) SignalBackend(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to backend %d: %v", sig, pid, err)
	}
}

// Ready waits until the server answers, as after the death of one of its
// processes, when it recovers by itself.
func (s *PostgresProcess) Ready(t testing.TB) {
	t.Helper()
	must(t, s.process.ready(60*time.Second, s.ping))
}
