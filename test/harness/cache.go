package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Cache returns the folder for things that are fetched once per machine:
// $MILLRACE_CACHE, or "millrace" in the user's cache folder. It lies outside
// the source tree, so that a fresh clone finds what an earlier one fetched.
func Cache() (string, error) {
	if dir := os.Getenv("MILLRACE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set MILLRACE_CACHE): %w", err)
	}
	return filepath.Join(dir, "millrace"), nil
}

// cached returns dir/name, filled by fill if it is not there yet. fill gets an
// empty folder that takes the name only when fill has succeeded, so a folder
// under its final name is whole.
//
// Guarantee 4: a file lock admits one process to the fetch; the others find its result.
func cached(dir, name string, fill func(dir string) error) (string, error) {
	target := filepath.Join(dir, name)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lockFile(target + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	partial := target + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clear an unfinished fetch: %w", err)
	}
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", partial, err)
	}
	if err := fill(partial); err != nil {
		return "", err
	}
	if err := os.Rename(partial, target); err != nil {
		return "", fmt.Errorf("keep %s: %w", name, err)
	}
	return target, nil
}

// lockFile takes an exclusive lock on path, waiting for whoever holds it. The
// kernel releases it when the process ends.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
