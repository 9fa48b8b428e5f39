package harness

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const installPostgres = "apt-get install -y postgresql"

// PostgresVersionEnv chooses the major version of the servers that the harness
// starts: "17". Unset, it is whatever is installed, or 17.
const PostgresVersionEnv = "MILLRACE_TEST_POSTGRES_VERSION"

// fetchable are the versions that are fetched where they are not installed.
var fetchable = map[string]embeddedpostgres.PostgresVersion{
	"14": embeddedpostgres.V14, "15": embeddedpostgres.V15, "16": embeddedpostgres.V16,
	"17": embeddedpostgres.V17, "18": embeddedpostgres.V18,
}

// postgresBin returns the folder with initdb and postgres: of the version that
// the environment asks for, or on the PATH, Debian's newest, or one that the
// embedded-postgres library fetches.
func postgresBin() (string, error) {
	if major := os.Getenv(PostgresVersionEnv); major != "" {
		return postgresOf(major)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if dir := filepath.Dir(path); isFile(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(dirs) > 0 {
		return slices.MaxFunc(dirs, byVersion), nil
	}
	return fetchPostgres(embeddedpostgres.V17)
}

// postgresOf is the folder of a major version: Debian's, or fetched.
func postgresOf(major string) (string, error) {
	if dir := filepath.Join("/usr/lib/postgresql", major, "bin"); isFile(filepath.Join(dir, "initdb")) {
		return dir, nil
	}
	version, known := fetchable[major]
	if !known {
		return "", fmt.Errorf("%s=%s: it is none of %s", PostgresVersionEnv, major, strings.Join(slices.Sorted(maps.Keys(fetchable)), ", "))
	}
	return fetchPostgres(version)
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
func fetchPostgres(version embeddedpostgres.PostgresVersion) (string, error) {
	root, err := openCache()
	if err != nil {
		return "", err
	}
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
