package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// FrameSize is the length of the frame in bytes: a zero byte and a schema id of four.
const FrameSize = 5

// ErrFrame says that a record's value does not begin with a Confluent frame.
var ErrFrame = errors.New("not a Confluent frame")

// AppendFrame appends the frame of a schema id: what stands before the Avro binary in a record's value. Ids are
// positive and fit 31 bits, as registries give them out; another id is a fault of the program and panics.
func AppendFrame(dst []byte, id int) []byte {
	if id < 0 || id > math.MaxInt32 {
		panic(fmt.Sprintf("avro: schema id %d is outside 0..%d", id, math.MaxInt32))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(id))
}

// SplitFrame splits a record's value into schema id and Avro binary, which shares the value's memory. The error is
// ErrFrame, with what was found instead.
func SplitFrame(value []byte) (id int, payload []byte, err error) {
	if len(value) < FrameSize {
		return 0, nil, fmt.Errorf("%w: a value of %d bytes", ErrFrame, len(value))
	}
	if value[0] != 0 {
		return 0, nil, fmt.Errorf("%w: the first byte is 0x%02x, not 0", ErrFrame, value[0])
	}
	raw := binary.BigEndian.Uint32(value[1:FrameSize])
	if raw > math.MaxInt32 {
		return 0, nil, fmt.Errorf("%w: schema id %d", ErrFrame, raw)
	}
	return int(raw), value[FrameSize:], nil
}
