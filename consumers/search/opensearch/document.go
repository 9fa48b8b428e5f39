package opensearch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
)

// appendItem writes the two lines of one state in a bulk request: what to do, and the document.
//
// Promise 4: the version is the event's. A document whose version is at or above it stays as it is (409), so that a repeat and a former
// owner change nothing. A deleted state is a document as well, a stub: the server forgets the version of a document that was really
// deleted after a minute, and an event delivered again after that would bring it back.
func (l *layout) appendItem(dst []byte, c *fold.Change, head guard) ([]byte, error) {
	start := len(dst)
	dst, err := l.appendDocument(head.append(dst, c), c)
	if err != nil {
		return dst[:start], err
	}
	return append(dst, '\n'), nil
}

// appendDocument writes the document of a state: what readers find.
func (l *layout) appendDocument(dst []byte, c *fold.Change) ([]byte, error) {
	dst, err := l.appendState(dst, c)
	if err != nil {
		return dst, err
	}
	if c.Exists {
		dst = append(dst, `,"`+liveField+`":true`...)
		if dst, err = l.appendColumns(dst, c.Values); err != nil {
			return dst, fmt.Errorf("%s %q: %w", l.Name, c.Key, err)
		}
	}
	return append(dst, '}'), nil
}

// appendBare is appendItem for a document that the server cannot index: its state, its key and why, so that nothing is lost and the
// key finds it. The columns are in the state.
func (l *layout) appendBare(dst []byte, c *fold.Change, head guard, why string) ([]byte, error) {
	dst, err := l.appendState(head.append(dst, c), c)
	if err != nil {
		return dst, err
	}
	if c.Exists {
		dst = append(dst, `,"`+liveField+`":true,"`+whyField+`":`...)
		dst = appendString(dst, why)
	}
	return append(dst, "}\n"...), nil
}

// appendState begins a document.
func (l *layout) appendState(dst []byte, c *fold.Change) ([]byte, error) {
	dst = append(dst, `{"`+stateField+`":"`...)
	state, err := stored.Encode(l.Columns, c.Stored)
	if err != nil {
		return dst, fmt.Errorf("%s %q: %w", l.Name, c.Key, err)
	}
	dst = base64.StdEncoding.AppendEncode(dst, state)
	dst = append(dst, `","`+keyField+`":`...)
	return appendString(dst, c.Key), nil
}

// appendColumns writes the columns that are not null. Decimals are exact in the source, whatever the index makes of them.
func (l *layout) appendColumns(dst []byte, values []any) ([]byte, error) {
	var err error
	for i, v := range values {
		if v == nil {
			continue
		}
		before := len(dst)
		dst = append(dst, ',', '"')
		dst = append(dst, l.Fields[i].Name...)
		dst = append(dst, '"', ':')
		bare := len(dst)
		if dst, err = appendValue(dst, l.Columns[i].Type, v); err != nil {
			return dst, fmt.Errorf("column %q: %w", l.Fields[i].Name, err)
		}
		if string(dst[bare:]) == "null" {
			dst = dst[:before]
		}
	}
	return l.appendExact(dst, values), nil
}

// appendExact writes the sortable forms of wide decimals.
func (l *layout) appendExact(dst []byte, values []any) []byte {
	open := `,"` + sortField + `":{"`
	for i, v := range values {
		if v == nil || !l.wide[i] {
			continue
		}
		dst = append(dst, open...)
		dst = append(dst, l.Fields[i].Name...)
		dst = append(dst, '"', ':')
		dst = appendSortable(dst, l.Fields[i].Type, v)
		open = `,"`
	}
	if open == `,"` {
		dst = append(dst, '}')
	}
	return dst
}

func appendSortable(dst []byte, t projection.Type, v any) []byte {
	switch x := v.(type) {
	case *big.Rat:
		dst = append(dst, '"')
		text, _ := sortable(t, x) // exact: a state fits its scale
		dst = append(dst, text...)
		return append(dst, '"')
	case []any:
		return appendList(dst, x, func(dst []byte, e any) []byte { return appendSortable(dst, t, e) })
	}
	return append(dst, "null"...)
}

func appendList(dst []byte, list []any, one func([]byte, any) []byte) []byte {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, e)
	}
	return append(dst, ']')
}

// appendValue writes a value as the index takes it; null for what has no form there. It is in the state all the same.
func appendValue(dst []byte, t projection.Type, v any) ([]byte, error) {
	switch x := v.(type) {
	case string:
		if t.Kind == projection.Text {
			return appendString(dst, x), nil
		}
	case int64:
		if t.Kind == projection.Int {
			return strconv.AppendInt(dst, x, 10), nil
		}
	case bool:
		if t.Kind == projection.Bool {
			return strconv.AppendBool(dst, x), nil
		}
	case float64:
		if t.Kind == projection.Float {
			return appendFloat(dst, x), nil
		}
	case time.Time:
		if t.Kind == projection.Timestamp || t.Kind == projection.Date {
			return appendTime(dst, t, x), nil
		}
	case time.Duration:
		if t.Kind == projection.Duration {
			return appendFloat(dst, x.Seconds()), nil
		}
	case *big.Rat:
		if t.Kind == projection.Decimal {
			return append(dst, x.FloatString(t.Scale)...), nil
		}
	case []any:
		if t.Kind == projection.List && t.Elem != nil && t.Elem.Kind != projection.List && t.Elem.Kind != projection.JSON {
			var err error
			dst = appendList(dst, x, func(dst []byte, e any) []byte {
				if e == nil || err != nil {
					return append(dst, "null"...)
				}
				dst, err = appendValue(dst, *t.Elem, e)
				return dst
			})
			return dst, err
		}
	}
	raw, err := json.Marshal(projection.DocumentValue(t, v)) // JSON, bytes, lists of lists: not indexed
	return append(dst, raw...), err
}

func appendFloat(dst []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, x, 'g', -1, 64)
}

// appendTime writes a time of the years that the index has a form for.
func appendTime(dst []byte, t projection.Type, x time.Time) []byte {
	if y := x.Year(); y < 1 || y > 9999 {
		return append(dst, "null"...)
	}
	layout := time.RFC3339Nano
	if t.Kind == projection.Date {
		layout = time.DateOnly
	}
	dst = append(dst, '"')
	dst = x.AppendFormat(dst, layout)
	return append(dst, '"')
}
