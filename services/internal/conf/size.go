package conf

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In a file it has a unit: B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB.
type Size int64

// DurationAlone is implemented by a struct that a duration alone may stand for in a file.
type DurationAlone interface{ DurationAlone() }

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a size with its unit, such as 20GiB. A bare number other than 0 is refused: its unit is anybody's guess.
func ParseSize(s string) (Size, error) {
	if s == "0" {
		return 0, nil
	}
	for _, unit := range sizeUnits {
		text, ok := strings.CutSuffix(s, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err == nil && n >= 0 && n*float64(unit.bytes) < math.MaxInt64 {
			return Size(n * float64(unit.bytes)), nil
		}
		break
	}
	return 0, fmt.Errorf("%s is no size: write for example 512MiB or 20GiB", shown(s))
}

// String writes a size so that ParseSize reads the same.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if unit := sizeUnits[i]; s != 0 && int64(s)%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/unit.bytes, unit.suffix)
		}
	}
	if s == 0 {
		return "0"
	}
	return fmt.Sprintf("%dB", int64(s))
}

// MarshalYAML writes a size as it is read.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

func unmarshalSize(s *Size, b []byte) error {
	v, err := ParseSize(string(bytes.Trim(bytes.TrimSpace(b), `"'`)))
	*s = v
	return err
}
