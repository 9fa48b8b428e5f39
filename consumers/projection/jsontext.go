package projection

import (
	"encoding/base64"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// AppendJSON appends a decoded value, or all the fields of a decoded event, as JSON in the form that Document describes. The names
// of a map are sorted, so that equal values give equal text. What is not UTF-8 is replaced by U+FFFD.
func AppendJSON(dst []byte, v any) []byte {
	switch x := v.(type) {
	case bool:
		return strconv.AppendBool(dst, x)
	case int64:
		return strconv.AppendInt(dst, x, 10)
	case float64:
		return appendJSONFloat(dst, x)
	case string:
		return appendJSONText(dst, x)
	case []byte:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, x)
		return append(dst, '"')
	case time.Time:
		dst = append(dst, '"')
		dst = x.UTC().AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"')
	case time.Duration:
		return appendJSONText(dst, durationText(x))
	case *big.Rat:
		if digits, exact := x.FloatPrec(); exact {
			return append(dst, x.FloatString(digits)...)
		}
		return appendJSONText(dst, x.String())
	case []any:
		return appendJSONList(dst, x)
	case map[string]any:
		return appendJSONMap(dst, x)
	}
	return append(dst, "null"...)
}

// AppendEventJSON appends the fields of an event as AppendJSON appends the map of them, without the map; null for an event that is not
// decoded.
func AppendEventJSON(dst []byte, ev *consumers.Event) []byte {
	all, values := ev.All()
	if all == nil {
		if fields := ev.Fields(); fields != nil {
			return AppendJSON(dst, fields)
		}
		return AppendJSON(dst, nil)
	}
	dst = append(dst, '{')
	for i, slot := range all.ByName() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONText(dst, all.Names()[slot])
		dst = append(dst, ':')
		dst = AppendJSON(dst, values[slot])
	}
	return append(dst, '}')
}

// AppendHeadersJSON appends the headers of an event as an object, in the order of the record. Of a doubled name the last one counts, and stands in its place.
func AppendHeadersJSON(dst []byte, ev *consumers.Event) []byte {
	headers := ev.RecordHeaders()
	dst = append(dst, '{')
	first := true
	again := repeated(headers)
	for i, h := range headers {
		if again(i) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendJSONText(dst, h.Key)
		dst = append(dst, ':')
		dst = appendJSONText(dst, string(h.Value))
	}
	return append(dst, '}')
}

// fewHeaders are compared with each other; where there are more, a map finds those that come again.
const fewHeaders = 24

// repeated tells whether the name of a header comes again behind it.
func repeated(headers []kgo.RecordHeader) func(i int) bool {
	if len(headers) <= fewHeaders {
		return func(i int) bool {
			return slices.ContainsFunc(headers[i+1:], func(h kgo.RecordHeader) bool { return h.Key == headers[i].Key })
		}
	}
	last := make(map[string]int, len(headers))
	for i, h := range headers {
		last[h.Key] = i
	}
	return func(i int) bool { return last[headers[i].Key] != i }
}

func appendJSONFloat(dst []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, x, 'g', -1, 64)
}

func appendJSONList(dst []byte, items []any) []byte {
	dst = append(dst, '[')
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSON(dst, item)
	}
	return append(dst, ']')
}

func appendJSONMap(dst []byte, m map[string]any) []byte {
	names := make([]string, 0, 16)
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONText(dst, name)
		dst = append(dst, ':')
		dst = AppendJSON(dst, m[name])
	}
	return append(dst, '}')
}

// appendJSONText writes a string, escaping what JSON must have escaped and nothing else.
func appendJSONText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
