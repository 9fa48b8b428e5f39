package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const workPrefix = "millrace-test-"

var work struct {
	sync.Mutex
	// guards the following
	dir  string
	lock *os.File
}

// workDir returns a new folder for one server of this process. Other users may
// enter it: PostgreSQL does not run as root. The folder of the process goes when
// Main returns; if the process is killed, the next one sweeps it.
func workDir(name string) (string, error) {
	work.Lock()
	defer work.Unlock()
	if work.dir == "" {
		if err := openWork(); err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp(work.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("make a folder for %s: %w", name, err)
	}
	return dir, os.Chmod(dir, 0o755)
}

func openWork() error {
	sweepWork()
	var err error
	work.dir, work.lock, err = makeWork()
	return err
}

// makeWork makes a folder and holds its lock. It has its name, by which others would sweep it, only then.
func makeWork() (dir string, lock *os.File, err error) {
	making, err := os.MkdirTemp("", "."+workPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("make a working folder: %w", err)
	}
	if err := os.Chmod(making, 0o755); err != nil {
		return "", nil, fmt.Errorf("open the working folder to others: %w", err)
	}
	lock, err = os.OpenFile(filepath.Join(making, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return "", nil, fmt.Errorf("lock the working folder: %w", err)
	}
	dir = filepath.Join(filepath.Dir(making), strings.TrimPrefix(filepath.Base(making), "."))
	if err := os.Rename(making, dir); err != nil {
		return "", nil, fmt.Errorf("name the working folder: %w", err)
	}
	return dir, lock, nil
}

// sweepWork removes the folders of processes that were killed: those whose
// lock nobody holds.
func sweepWork() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), workPrefix+"*"))
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && !keepData() {
			os.RemoveAll(dir)
		}
		lock.Close()
	}
}

// closeWork removes the folder of this process.
func closeWork() {
	work.Lock()
	defer work.Unlock()
	if work.dir == "" {
		return
	}
	if keepData() {
		fmt.Fprintln(os.Stderr, "harness: data kept in", work.dir)
	} else {
		os.RemoveAll(work.dir)
	}
	work.lock.Close()
	work.dir, work.lock = "", nil
}

// keepData reports whether MILLRACE_TEST_KEEP asks for data and logs to be left behind.
func keepData() bool { return os.Getenv("MILLRACE_TEST_KEEP") != "" }
