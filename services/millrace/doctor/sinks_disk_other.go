//go:build !linux && !darwin

package doctor

// writable cannot tell.
func writable(string) error { return nil }

func freeSpace(string) (free uint64, known bool) { return 0, false }
