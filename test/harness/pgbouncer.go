package harness

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer starts PgBouncer for this test, in the given pool mode (session,
// transaction or statement), with at most size connections to the server, and
// returns the URL that reaches the database of dsn through it.
func PgBouncer(t testing.TB, dsn, mode string, size int) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // not on everybody's path
		if !isFile(path) {
			Missing(t, &MissingError{Part: "pgbouncer", Reason: "it is not installed", Install: "apt-get install -y pgbouncer"})
		}
	}
	u, err := url.Parse(dsn)
	must(t, err)
	user, err := postgresUser() // it does not run as root either
	must(t, err)
	dir, err := workDir("pgbouncer")
	must(t, err)
	port, err := FreePort()
	must(t, err)
	config := filepath.Join(dir, "pgbouncer.ini")
	// auth_type any asks nobody for a name, and so takes the one of the database's entry.
	must(t, os.WriteFile(config, []byte(fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
`, u.Hostname(), u.Port(), u.User.Username(), port, mode, size)), 0o644))
	p, err := start(Command{Path: path, Args: []string{config}, Name: "pgbouncer", Dir: dir, credential: user})
	must(t, err)
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("last output of pgbouncer:\n%s", lastLines(p.Output(), 20))
		}
	})
	through := *u
	through.Host = loopback(port)
	must(t, p.ready(30*time.Second, func() error {
		conn, err := pgx.Connect(t.Context(), through.String())
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	}))
	return through.String()
}
