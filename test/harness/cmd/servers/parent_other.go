//go:build unix && !linux

package main

// stopWithParent does nothing where the kernel knows no parent-death signal.
func stopWithParent() {}
