package avro

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// cursor takes values off the front of a payload. After the first that is not as it should be it is bad, and gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() { c.b, c.bad = nil, true }

// take returns the next n bytes, which are the payload's; nil if there are not so many.
func (c *cursor) take(n int) []byte {
	if len(c.b) < n {
		c.fail()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// word reads a little-endian number of 4 or 8 bytes.
func (c *cursor) word(size int) uint64 {
	b := c.take(size)
	switch {
	case b == nil:
		return 0
	case size == 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func (c *cursor) long() int64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		u := uint64(c.b[0])
		c.b = c.b[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// int reads a number of 32 bits in at most five bytes.
func (c *cursor) int() int32 {
	had := len(c.b)
	v := c.long()
	if int64(int32(v)) != v || had-len(c.b) > 5 {
		c.fail()
		return 0
	}
	return int32(v)
}

// index reads the number of a branch or symbol, one of n.
func (c *cursor) index(n int) int {
	i := c.int()
	if i < 0 || int(i) >= n {
		c.fail()
		return 0
	}
	return int(i)
}

func (c *cursor) bytes() []byte {
	n := c.long()
	if n < 0 || n > int64(len(c.b)) {
		c.fail()
		return nil
	}
	return c.take(int(n))
}

func (c *cursor) text() []byte {
	b := c.bytes()
	if !utf8.Valid(b) {
		c.fail()
	}
	return b
}

// block reads how many items of at least so many bytes follow; 0 is the end. A block with its size in front counts as bad.
func (c *cursor) block(least int) int {
	n := c.long()
	if n < 0 || n > int64(len(c.b)/least) {
		c.fail()
		return 0
	}
	return int(n)
}

// clock is a time of day.
func (c *cursor) clock(v int64, unit time.Duration) time.Duration {
	if v < 0 || v >= int64(24*time.Hour/unit) {
		c.fail()
		return 0
	}
	return time.Duration(v) * unit
}

// uuidBytes reads a uuid in text.
func (c *cursor) uuidBytes() []byte {
	b := c.bytes()
	if len(b) != 36 {
		c.fail()
		return nil
	}
	for i, x := range b {
		ok := x >= '0' && x <= '9' || x >= 'a' && x <= 'f' || x >= 'A' && x <= 'F'
		if i == 8 || i == 13 || i == 18 || i == 23 {
			ok = x == '-'
		}
		if !ok {
			c.fail()
			return nil
		}
	}
	return b
}

// uuid reads a uuid in text; the value is in lower case.
func (c *cursor) uuid() string {
	var lower [36]byte
	for i, x := range c.uuidBytes() {
		if x >= 'A' && x <= 'F' {
			x |= 0x20
		}
		lower[i] = x
	}
	return string(lower[:])
}
