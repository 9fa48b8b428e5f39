//go:build unix && !linux

package harness

import "syscall"

// dieWithParent does nothing where the kernel knows no parent-death signal.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
