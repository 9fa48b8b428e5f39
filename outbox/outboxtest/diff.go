package outboxtest

import (
	"bytes"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// differences compares one event with what was wanted of it, a line for each difference.
func differences(got Event, want expectation) []string {
	if got.Type != want.Type {
		return []string{fmt.Sprintf("type: got %s, want %s", got.Type, want.Type)}
	}
	var lines []string
	differ := func(what, got, want string) {
		if got != want {
			lines = append(lines, fmt.Sprintf("%s: got %s, want %s", what, got, want))
		}
	}
	if want.Key != "" {
		differ("key", strconv.Quote(got.Key), strconv.Quote(want.Key))
	}
	if want.Topic != "" {
		differ("topic", got.Topic, want.Topic)
	}
	if want.ID != ([16]byte{}) {
		differ("id", fmt.Sprintf("%x", got.ID), fmt.Sprintf("%x", want.ID))
	}
	if !want.OccurredAt.IsZero() {
		differ("occurred at", show(got.OccurredAt), show(want.OccurredAt.Truncate(time.Microsecond)))
	}
	for _, name := range slices.Sorted(maps.Keys(want.Headers)) {
		value, ok := got.Headers[name]
		if !ok {
			lines = append(lines, fmt.Sprintf("header %s: missing, want %q", name, want.Headers[name]))
			continue
		}
		differ("header "+name, strconv.Quote(value), strconv.Quote(want.Headers[name]))
	}
	return append(lines, fieldDifferences(got, want)...)
}

func fieldDifferences(got Event, want expectation) []string {
	payload, err := got.codec.AppendEncode(nil, want.value)
	if err != nil {
		return []string{fmt.Sprintf("the wanted event does not fit its schema: %v", err)}
	}
	if bytes.Equal(payload, got.payload) {
		return nil
	}
	fields, err := got.codec.Decode(payload)
	if err != nil {
		return []string{fmt.Sprintf("the wanted event cannot be decoded: %v", err)}
	}
	var lines []string
	for _, f := range got.codec.Fields() {
		if g, w := show(got.Fields[f.Name]), show(fields[f.Name]); g != w {
			lines = append(lines, fmt.Sprintf("field %s: got %s, want %s", f.Name, g, w))
		}
	}
	return lines
}

func describe(e Event) string {
	return fmt.Sprintf("%s key %q %s", e.Type, e.Key, show(e.Fields))
}

// show writes a decoded value so that two that differ look different.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return strconv.Quote(v)
	case []byte:
		return fmt.Sprintf("bytes %x", v)
	case *big.Rat:
		digits, _ := v.FloatPrec() // decimals always end
		return v.FloatString(digits)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = show(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+": "+show(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}
