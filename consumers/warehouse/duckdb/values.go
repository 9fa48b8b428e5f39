//go:build cgo

package duckdb

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// row is a change as DuckDB takes it, in the order of the table's names.
func (t *table) row(c fold.Change) ([]driver.Value, error) {
	if !utf8.ValidString(c.Key) {
		return nil, errors.New("the key is not UTF-8")
	}
	out := make([]driver.Value, 0, len(t.names))
	out = append(out, c.Key, c.Version, strings.ToValidUTF8(c.EventID, "\ufffd"), c.Time.UTC().Truncate(time.Microsecond), !c.Exists)
	if !c.Exists {
		return out[:len(t.names)], nil // nulls
	}
	if len(c.Values) != len(t.cols) {
		return nil, fmt.Errorf("%d values for %d columns", len(c.Values), len(t.cols))
	}
	for i, col := range t.cols {
		v, err := toDuck(col.Type, c.Values[i])
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", col.Name, err)
		}
		out = append(out, v)
	}
	if len(t.exact) > 0 {
		values := make([]any, len(t.exact))
		for i, at := range t.exactAt {
			values[i] = c.Values[at]
		}
		b, err := projection.EncodeState(t.exact, values)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// toDuck turns the value of a column into what the driver takes. A value that is not of the column's kind is an error.
func toDuck(t projection.Type, v any) (driver.Value, error) {
	if v == nil {
		return nil, nil
	}
	switch t.Kind {
	case projection.Bool:
		return is[bool](t, v)
	case projection.Int:
		return is[int64](t, v)
	case projection.Float:
		return is[float64](t, v)
	case projection.Text:
		if s, ok := v.(string); ok && !utf8.ValidString(s) {
			return nil, errors.New("the text is not UTF-8")
		}
		return is[string](t, v)
	case projection.Bytes:
		return is[[]byte](t, v)
	case projection.Date, projection.Timestamp:
		return is[time.Time](t, v)
	case projection.Duration:
		d, ok := v.(time.Duration)
		if !ok {
			return nil, wrongKind(t, v)
		}
		return duckdb.Interval{Micros: d.Microseconds()}, nil
	case projection.Decimal:
		r, ok := v.(*big.Rat)
		if !ok {
			return nil, wrongKind(t, v)
		}
		n, err := projection.Unscaled(r, t.Precision, t.Scale)
		return duckdb.Decimal{Width: uint8(t.Precision), Scale: uint8(t.Scale), Value: n}, err
	case projection.List:
		return listToDuck(t, v)
	case projection.JSON:
		if _, err := projection.Coerce(t, v); err != nil {
			return nil, err
		}
		return string(projection.AppendJSON(nil, v)), nil
	}
	return nil, wrongKind(t, v)
}

func is[T any](t projection.Type, v any) (driver.Value, error) {
	if _, ok := v.(T); !ok {
		return nil, wrongKind(t, v)
	}
	return v, nil
}

func wrongKind(t projection.Type, v any) error { return fmt.Errorf("a %T is no %s", v, t) }

func listToDuck(t projection.Type, v any) (driver.Value, error) {
	in, ok := v.([]any)
	if !ok {
		return nil, wrongKind(t, v)
	}
	out := make([]any, len(in))
	for i, e := range in {
		var err error
		if out[i], err = toDuck(*t.Elem, e); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out, nil
}

// stored is a row of the load statement as a state.
func (t *table) stored(row []driver.Value) (key string, s fold.Stored, err error) {
	key, _ = row[0].(string)
	s.Version, _ = row[1].(int64)
	s.EventID, _ = row[2].(string)
	s.Time, _ = row[3].(time.Time)
	if deleted, _ := row[4].(bool); deleted {
		return key, s, nil
	}
	var exact []any
	if len(t.exact) > 0 {
		b, _ := row[len(row)-1].([]byte)
		if exact, err = projection.DecodeState(t.exact, b); err != nil {
			return key, s, err
		}
	}
	s.Exists, s.Values = true, make([]any, len(t.cols))
	next := len(headNames)
	for i, c := range t.cols {
		if holdsJSON(c.Type) {
			s.Values[i], exact = exact[0], exact[1:]
			continue
		}
		if s.Values[i], err = fromDuck(c.Type, row[next]); err != nil {
			return key, s, fmt.Errorf("column %s: %w", c.Name, err)
		}
		next++
	}
	return key, s, nil
}

// fromDuck turns what the driver returns into the value of a column.
func fromDuck(t projection.Type, v any) (any, error) {
	switch x := v.(type) {
	case nil:
		return nil, nil
	case duckdb.Interval:
		if x.Months == 0 && x.Days == 0 {
			return time.Duration(x.Micros) * time.Microsecond, nil
		}
		return nil, fmt.Errorf("an interval of %d months and %d days is no duration", x.Months, x.Days)
	case duckdb.Decimal:
		return new(big.Rat).SetFrac(x.Value, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(x.Scale)), nil)), nil
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			var err error
			if out[i], err = fromDuck(*t.Elem, e); err != nil {
				return nil, err
			}
		}
		return out, nil
	case time.Time:
		return x.UTC(), nil
	}
	return v, nil
}
