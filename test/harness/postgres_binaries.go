package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const installPostgres = "apt-get install -y postgresql"

// postgresBin returns the folder with initdb and postgres: on the PATH,
// Debian's newest, or one that the embedded-postgres library fetches.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if dir := filepath.Dir(path); isFile(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(dirs) > 0 {
		return slices.MaxFunc(dirs, byVersion), nil
	}
	return fetchPostgres()
}

func byVersion(a, b string) int {
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	return version(a) - version(b)
}

// fetchPostgres lets the library fetch and unpack its binaries. It offers no
// call for that alone, so it starts a server, which as root is bound to fail:
// what counts is whether the binaries are there afterwards.
func fetchPostgres() (string, error) {
	root, err := openCache()
	if err != nil {
		return "", err
	}
	version := embeddedpostgres.V17
	dir, err := cached(root, "harness-postgres-"+string(version), func(dir string) error {
		port, err := FreePort()
		if err != nil {
			return err
		}
		server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
			Version(version).Port(uint32(port)).Logger(io.Discard).
			CachePath(filepath.Join(dir, "archive")).
			BinariesPath(dir).RuntimePath(filepath.Join(dir, "run")))
		startErr := server.Start()
		if startErr == nil {
			startErr = server.Stop()
		}
		if !isFile(filepath.Join(dir, "bin", "postgres")) {
			return &MissingError{Part: "postgres", Reason: fmt.Sprintf("not installed, and cannot be fetched: %v", startErr), Install: installPostgres}
		}
		return errors.Join(os.RemoveAll(filepath.Join(dir, "run")), os.RemoveAll(filepath.Join(dir, "archive")))
	})
	return filepath.Join(dir, "bin"), err
}

// openCache is Cache(), unless a server that does not run as root cannot look
// into it: the home of root is closed to others.
func openCache() (string, error) {
	dir, err := Cache()
	if err != nil || os.Geteuid() != 0 || os.Getenv("MILLRACE_CACHE") != "" {
		return dir, err
	}
	return "/var/cache/millrace", nil
}

func postgresUser() (*syscall.Credential, error) { return serverUser("PostgreSQL") }

// serverUser returns whom a server runs as that refuses to run as root: nil for
// this process's user, somebody unprivileged if that is root.
func serverUser(server string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New(server + " does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}
