package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const (
	// BinaryEnv names a millrace binary that is built already, to be used by Binary.
	BinaryEnv = "MILLRACE_TEST_BINARY"
	// CrashBinaryEnv names one for CrashBinary.
	CrashBinaryEnv = "MILLRACE_TEST_CRASH_BINARY"
	// CrashBinaryWithCgoEnv names one for CrashBinaryWithCgo.
	CrashBinaryWithCgoEnv = "MILLRACE_TEST_CRASH_BINARY_CGO"
)

var (
	binary = sync.OnceValues(func() (string, error) { return buildBinary("millrace", nil) })
	// Without cgo, and so without DuckDB, it links in a fraction of the time.
	crashBinary = sync.OnceValues(func() (string, error) {
		return buildBinary("millrace-crashpoints", []string{"CGO_ENABLED=0"}, "-tags", "crashpoints")
	})
	crashBinaryWithCgo = sync.OnceValues(func() (string, error) {
		return buildBinary("millrace-crashpoints-cgo", nil, "-tags", "crashpoints")
	})
)

// Binary returns the path of the real millrace binary, built from this tree once
// per process.
func Binary(t testing.TB) string {
	t.Helper()
	return built(t, BinaryEnv, binary)
}

// CrashBinary returns the path of a millrace binary that kills or freezes itself
// at a named point of the relay or of a rebuild when its environment says so (the build tag
// crashpoints, internal/crashpoint) and is like the real one
// otherwise, but for having no DuckDB. It is built once per process.
func CrashBinary(t testing.TB) string {
	t.Helper()
	return built(t, CrashBinaryEnv, crashBinary)
}

// CrashBinaryWithCgo is CrashBinary with DuckDB, which takes longer to link.
func CrashBinaryWithCgo(t testing.TB) string {
	t.Helper()
	return built(t, CrashBinaryWithCgoEnv, crashBinaryWithCgo)
}

func built(t testing.TB, env string, build func() (string, error)) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		// A look that go test's cache takes note of: another binary is another result.
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
		return path
	}
	path, err := build()
	must(t, err)
	return path
}

// buildBinary builds under a lock, and into the working folder of this process:
// another may be running an older build.
func buildBinary(name string, env []string, flags ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	// One linker at a time: it takes a gigabyte.
	unlock, err := lockFile(filepath.Join(cache, "build.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	dir, err := workDir("bin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./services/millrace")...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, tail(out, 4000))
	}
	return path, nil
}

// moduleRoot finds go.mod above the folder in which the test runs.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if isFile(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the module: no go.mod above the working folder")
		}
		dir = parent
	}
}

// Root returns the module's root folder.
func Root(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	must(t, err)
	return root
}
