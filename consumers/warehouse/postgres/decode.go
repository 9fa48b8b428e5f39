package postgres

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var errValue = errors.New("the value is not as it was written")

// stored is a row of the load statement as a state; the values are in their binary form.
func (t *table) stored(row [][]byte) (s fold.Stored, err error) {
	if len(row[1]) != 8 || len(row[4]) != 1 {
		return s, errValue
	}
	s.Version = int64(be.Uint64(row[1]))
	s.EventID = string(row[2])
	if row[3] != nil {
		if s.Time, err = timeOf(row[3]); err != nil {
			return s, err
		}
	}
	if row[4][0] == 1 {
		return s, nil
	}
	var exact map[string]any
	if row[5] != nil {
		if exact, err = decodeExact(row[5]); err != nil {
			return s, err
		}
	}
	s.Exists, s.Values = true, make([]any, len(t.cols))
	next := len(headNames) + 1
	for i, c := range t.cols {
		v, held := exact[c.Name]
		switch {
		case held: // written for another type, it may be, that this one holds as well
			s.Values[i], err = projection.Coerce(c.Type, v)
		case !heldAsJSON(c.Type):
			s.Values[i], err = valueOf(c.Type, row[next])
		}
		if err != nil {
			return s, fmt.Errorf("column %s: %w", c.Name, err)
		}
		if !heldAsJSON(c.Type) {
			next++
		}
	}
	return s, nil
}

// valueOf reads a value in its binary form.
func valueOf(t projection.Type, b []byte) (any, error) {
	if b == nil {
		return nil, nil
	}
	switch t.Kind {
	case projection.Text:
		return string(b), nil
	case projection.Bytes:
		return append([]byte{}, b...), nil
	case projection.Decimal:
		r, err := numericOf(b)
		if err != nil {
			return nil, err
		}
		return r, nil
	case projection.List:
		return arrayOf(*t.Elem, b)
	case projection.Timestamp:
		return timeOf(b)
	}
	switch {
	case t.Kind == projection.Bool && len(b) == 1:
		return b[0] == 1, nil
	case t.Kind == projection.Date && len(b) == 4:
		return time.Unix(int64(int32(be.Uint32(b)))*secondsPerDay+postgresEpoch, 0).UTC(), nil
	case t.Kind == projection.Int && len(b) == 8:
		return int64(be.Uint64(b)), nil
	case t.Kind == projection.Float && len(b) == 8:
		return math.Float64frombits(be.Uint64(b)), nil
	case t.Kind == projection.Duration && len(b) == 16 && be.Uint64(b[8:]) == 0:
		return time.Duration(be.Uint64(b)) * time.Microsecond, nil
	}
	return nil, errValue
}

func timeOf(b []byte) (time.Time, error) {
	if len(b) != 8 {
		return time.Time{}, errValue
	}
	us := int64(be.Uint64(b))
	return time.Unix(us/1e6+postgresEpoch, us%1e6*1000).UTC(), nil
}

// arrayOf reads an array of one dimension, or of none.
func arrayOf(elem projection.Type, b []byte) (any, error) {
	if len(b) < 12 {
		return nil, errValue
	}
	dimensions := be.Uint32(b)
	if dimensions == 0 {
		return []any{}, nil
	}
	if dimensions != 1 || len(b) < 20 {
		return nil, errValue
	}
	count := int(be.Uint32(b[12:]))
	b = b[20:]
	if count > len(b)/4 { // each has a length
		return nil, errValue
	}
	items := make([]any, count)
	for i := range items {
		if len(b) < 4 {
			return nil, errValue
		}
		size := int(int32(be.Uint32(b)))
		b = b[4:]
		if size < 0 {
			continue
		}
		if size > len(b) {
			return nil, errValue
		}
		var err error
		if items[i], err = valueOf(elem, b[:size]); err != nil {
			return nil, err
		}
		b = b[size:]
	}
	return items, nil
}
