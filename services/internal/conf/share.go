package conf

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxShare is the smallest share, as its denominator.
const MaxShare = 1 << 20

// ParseShare reads a share of keys, 1/16, and returns its denominator; 1 for an empty one.
func ParseShare(text string) (uint64, error) {
	if text == "" {
		return 1, nil
	}
	of, ok := strings.CutPrefix(text, "1/")
	n, err := strconv.ParseUint(of, 10, 32)
	if !ok || err != nil || n == 0 || n > MaxShare {
		return 0, fmt.Errorf("%q is no share of the keys such as 1/16", text)
	}
	return n, nil
}
