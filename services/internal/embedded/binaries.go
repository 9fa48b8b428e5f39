package embedded

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchedVersion is the PostgreSQL that is fetched where none is installed.
const fetchedVersion = embeddedpostgres.V17

// oldestVersion is the oldest major version the outbox works on.
const oldestVersion = 14

// postgresBinaries returns a folder that holds initdb and postgres, and where it is from.
func postgresBinaries(owner account, say func(string)) (dir, from string, err error) {
	if dir, version := installed(); dir != "" {
		return dir, fmt.Sprintf("PostgreSQL %d of this machine", version), nil
	}
	cache, err := owner.cacheDir()
	if err != nil {
		return "", "", err
	}
	root := filepath.Join(cache, "postgres-"+string(fetchedVersion))
	dir = filepath.Join(root, "bin")
	if !executable(filepath.Join(dir, "postgres")) {
		say(fmt.Sprintf("fetching PostgreSQL %s (once, about 10 MB)", fetchedVersion))
		if err := fetch(cache, root); err != nil {
			return "", "", fmt.Errorf("fetch PostgreSQL %s: %w (install PostgreSQL %d or newer, or give --postgres URL)", fetchedVersion, err, oldestVersion)
		}
	}
	return dir, "PostgreSQL " + string(fetchedVersion) + ", fetched", nil
}

// fetch lets the library download and unpack. It can do so only by starting a server; as root that start fails after the
// unpacking, which is all that is wanted here.
func fetch(cache, root string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	run, err := os.MkdirTemp("", "millrace-fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().Version(fetchedVersion).Port(uint32(port)).
		BinariesPath(root).CachePath(cache).RuntimePath(filepath.Join(run, "run")).DataPath(filepath.Join(run, "data")).Logger(io.Discard))
	if err := server.Start(); err != nil {
		if executable(filepath.Join(root, "bin", "postgres")) && executable(filepath.Join(root, "bin", "initdb")) {
			return nil
		}
		return err
	}
	return server.Stop()
}

// installed returns the newest local installation that is new enough; "" if there is none.
func installed() (dir string, version int) {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(p))
		}
	}
	sort.SliceStable(dirs, func(i, j int) bool { return majorVersion(dirs[i]) > majorVersion(dirs[j]) })
	for _, d := range dirs {
		if v := majorVersion(d); v >= oldestVersion && executable(filepath.Join(d, "initdb")) {
			return d, v
		}
	}
	return "", 0
}

// majorVersion asks the server in dir; 0 if there is none that answers.
func majorVersion(dir string) int {
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.18 (...)
	if len(fields) < 3 {
		return 0
	}
	major, _, _ := strings.Cut(fields[2], ".")
	n, _ := strconv.Atoi(major)
	return n
}

func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
