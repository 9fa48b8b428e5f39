package main

import "syscall"

// stopWithParent asks for SIGTERM when the parent, make for instance, is gone:
// nobody would wait for the command any more. A kernel that refuses leaves us
// with the orderly end.
func stopWithParent() {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0)
}
