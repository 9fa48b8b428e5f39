package harness

import (
	"fmt"
	"syscall"
	"unsafe"
)

// limitFiles has no file grow beyond so many bytes by a process's hand: its writes fail (EFBIG).
func limitFiles(pid int, bytes uint64) error {
	limit := syscall.Rlimit{Cur: bytes, Max: bytes}
	_, _, failed := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if failed != 0 {
		return fmt.Errorf("limit the size of files of process %d: %w", pid, failed)
	}
	return nil
}
