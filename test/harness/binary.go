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

// BinaryEnv names a millrace binary that is built already, to be used by Binary.
const BinaryEnv = "MILLRACE_TEST_BINARY"

var buildOnce = sync.OnceValues(buildBinary)

// Binary returns the path of the real millrace binary, built from this tree once
// per process.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(BinaryEnv); path != "" {
		// A look that go test's cache takes note of: another binary is another result.
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s: %v", BinaryEnv, err)
		}
		return path
	}
	path, err := buildOnce()
	must(t, err)
	return path
}

// buildBinary builds under a lock, and into the working folder of this process:
// another may be running an older build.
func buildBinary() (string, error) {
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
	path := filepath.Join(dir, "millrace")
	cmd := exec.Command("go", "build", "-o", path, "./services/millrace")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build millrace: %w\n%s", err, tail(out, 4000))
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
