// Package stored writes a fold.Stored as bytes, for backends that keep states opaque: a stored field of a search index, a value of
// a key-value store. What Encode wrote, Decode returns exactly.
//
//	format 1 · exists 1 · version varint · time: seconds varint, nanoseconds uvarint · event id: length uvarint, bytes · state
package stored

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// format is the first byte. Another layout takes another number.
const format = 1

var errTruncated = errors.New("decode stored state: ends in the middle of a value")

// Encode writes s. The values of an existing state must be of the given columns' kinds.
func Encode(cols []projection.Column, s fold.Stored) ([]byte, error) { return Append(nil, cols, s) }

// Append is Encode behind what stands in b.
func Append(b []byte, cols []projection.Column, s fold.Stored) ([]byte, error) {
	var state []byte
	if s.Exists {
		var err error
		if state, err = projection.EncodeState(cols, s.Values); err != nil {
			return b, err
		}
	}
	b = slices.Grow(b, 32+len(s.EventID)+len(state))
	b = append(b, format, exists(s.Exists))
	b = binary.AppendVarint(b, s.Version)
	b = binary.AppendVarint(b, s.Time.Unix())
	b = binary.AppendUvarint(b, uint64(s.Time.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(len(s.EventID)))
	b = append(b, s.EventID...)
	return append(b, state...), nil
}

func exists(yes bool) byte {
	if yes {
		return 1
	}
	return 0
}

// Decode reads what Encode wrote for the same columns. It fails, and never panics, for other bytes.
func Decode(cols []projection.Column, b []byte) (fold.Stored, error) {
	if len(b) < 2 || b[0] != format || b[1] > 1 {
		return fold.Stored{}, errors.New("decode stored state: unknown format")
	}
	r := reader{b: b[2:]}
	var s fold.Stored
	s.Version = r.varint()
	seconds, nanos := r.varint(), r.uvarint()
	s.EventID = string(r.take(r.uvarint()))
	if r.bad || nanos >= uint64(time.Second) {
		return fold.Stored{}, errTruncated
	}
	s.Time = time.Unix(seconds, int64(nanos)).UTC()
	if b[1] == 0 {
		if len(r.b) != 0 {
			return fold.Stored{}, fmt.Errorf("decode stored state: %d bytes behind a deleted state", len(r.b))
		}
		return s, nil
	}
	values, err := projection.DecodeState(cols, r.b)
	if err != nil {
		return fold.Stored{}, err
	}
	s.State = projection.State{Exists: true, Values: values}
	return s, nil
}

// reader takes values off the front of b; once it could not, it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) varint() int64 {
	x, n := binary.Varint(r.b)
	r.skip(n)
	return x
}

func (r *reader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	r.skip(n)
	return x
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[n:]
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}
