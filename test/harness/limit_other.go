//go:build unix && !linux

package harness

import "errors"

func limitFiles(int, uint64) error {
	return errors.New("only on Linux can the size of another process's files be limited")
}
