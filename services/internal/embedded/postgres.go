// Package embedded starts what `millrace demo` needs on a machine that has nothing: a PostgreSQL server, an in-process Kafka
// broker and an in-process Redis. They are for trying the product out; none of them is for production, and the broker and
// the cache prove nothing about the real ones.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresStart = 60 * time.Second // how long a server may take to answer, first initialisation included
	postgresStop  = 20 * time.Second // how long a fast shutdown may take before the server is killed
)

// Postgres is a running server that belongs to this process.
type Postgres struct {
	// URL connects as superuser to the database "postgres".
	URL string
	// From says where the binaries came from, for a person.
	From string

	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// StartPostgres starts a server on a free port of 127.0.0.1 with its data in dir, which is created and initialised if
// need be. Binaries of a local installation are taken if there is one, else they are fetched once into a cache; progress is
// told in words to say. As root the server runs as an unprivileged user, for PostgreSQL refuses to run as root.
func StartPostgres(ctx context.Context, dir string, say func(string)) (*Postgres, error) {
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	bin, from, err := postgresBinaries(owner, say)
	if err != nil {
		return nil, err
	}
	if err := prepareDir(dir, owner); err != nil {
		return nil, err
	}
	p := &Postgres{From: from, done: make(chan struct{}), log: filepath.Join(dir, "postgres.log")}
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		initdb := owner.command(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
		initdb.Dir = dir
		if out, err := initdb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("initialise a PostgreSQL data directory in %s: %w: %s", data, err, tail(out))
		}
	}
	if err := p.start(ctx, bin, data, owner); err != nil {
		return nil, err
	}
	return p, p.ready(ctx)
}

func (p *Postgres) start(ctx context.Context, bin, data string, owner account) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	// The server outlives ctx on purpose: Stop ends it after everything that uses it has ended.
	p.cmd = owner.command(context.WithoutCancel(ctx), filepath.Join(bin, "postgres"), "-D", data, "-p", fmt.Sprint(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=100",
		"-c", "shared_buffers=128MB", "-c", "max_wal_size=2GB", "-c", "log_min_messages=warning")
	p.cmd.Dir = filepath.Dir(data)
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	p.URL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	return startOwned(p.cmd, p.done)
}

func (p *Postgres) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgresStart)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			out, _ := os.ReadFile(p.log)
			return fmt.Errorf("PostgreSQL ended at start: %s", tail(out))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("PostgreSQL did not answer (its log: %s): %w", p.log, err), p.Stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop shuts the server down fast (sessions are ended) and waits for it.
func (p *Postgres) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-time.After(postgresStop):
		_ = p.cmd.Process.Kill()
		<-p.done
		return errors.New("PostgreSQL did not shut down in time and was killed")
	}
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// tail is the end of a log, short enough for an error.
func tail(out []byte) string {
	out = bytes.TrimSpace(out)
	if len(out) > 600 {
		out = out[len(out)-600:]
	}
	return string(out)
}
