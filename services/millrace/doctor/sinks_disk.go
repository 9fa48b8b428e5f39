//go:build linux || darwin

package doctor

import (
	"errors"
	"io/fs"
	"syscall"
)

// writable returns nil if this user may write to a file or folder, or if it is not there.
func writable(path string) error {
	const write = 2
	err := syscall.Access(path, write)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// freeSpace is how many bytes this user can still write.
func freeSpace(dir string) (free uint64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
