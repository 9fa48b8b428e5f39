//go:build !linux

package relay

import "syscall"

// limitUnheard does nothing where the system cannot be told: keepalives, and poll_timeout, notice later.
func limitUnheard(syscall.RawConn) error { return nil }
