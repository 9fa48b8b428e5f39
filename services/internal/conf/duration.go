package conf

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Forever is what the word "forever" means where a duration stands.
const Forever time.Duration = -1

// ParseDuration reads a duration as time.ParseDuration does, and also whole or broken days (7d) and weeks (2w) and the word
// "forever". A bare number other than 0 is refused: its unit is anybody's guess.
func ParseDuration(s string) (time.Duration, error) {
	switch {
	case s == "forever":
		return Forever, nil
	case strings.HasSuffix(s, "d"):
		return times(s, "d", 24*time.Hour)
	case strings.HasSuffix(s, "w"):
		return times(s, "w", 7*24*time.Hour)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, durationError(s)
	}
	if d < 0 {
		return 0, fmt.Errorf("duration %q is negative", s)
	}
	return d, nil
}

// FormatDuration writes a duration so that ParseDuration reads the same: days where it is whole days, without units that are zero.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "forever"
	case d > 0 && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func times(s, suffix string, unit time.Duration) (time.Duration, error) {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, suffix), 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > float64(math.MaxInt64/int64(unit)) {
		return 0, durationError(s)
	}
	return time.Duration(n * float64(unit)), nil
}

func durationError(s string) error {
	return fmt.Errorf("%s is no duration: write for example 500ms, 30s, 12h, 7d or forever", shown(s))
}

// badDuration walks the document beside the type it was to fill and returns the dotted key and line of the first duration or
// size that cannot be read: the YAML library does not say where a custom type failed. Line 0 if there is none.
func badDuration(n ast.Node, t reflect.Type, key string) (string, int) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[time.Duration]() {
		if _, err := ParseDuration(n.GetToken().Value); err != nil {
			return key, n.GetToken().Position.Line
		}
		return "", 0
	}
	if t == reflect.TypeFor[Size]() {
		if _, err := ParseSize(n.GetToken().Value); err != nil {
			return key, n.GetToken().Position.Line
		}
		return "", 0
	}
	if len(pairs(n)) == 0 && reflect.PointerTo(t).Implements(reflect.TypeFor[DurationAlone]()) {
		return badDuration(n, reflect.TypeFor[time.Duration](), key)
	}
	for _, pair := range pairs(n) {
		name := pair.Key.GetToken().Value
		if below := elem(t, name); below != nil {
			if k, line := badDuration(pair.Value, below, strings.TrimPrefix(key+"."+name, ".")); line > 0 {
				return k, line
			}
		}
	}
	return "", 0
}

// elem is the type that a key of a value of type t has; nil if t has no such key.
func elem(t reflect.Type, name string) reflect.Type {
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if tag == name || tag == "" && strings.EqualFold(f.Name, name) {
			return f.Type
		}
	}
	return nil
}
