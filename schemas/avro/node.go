package avro

import (
	"math"
	"math/big"
	"math/bits"
	"time"

	lib "github.com/twmb/avro"
)

// op says how a type is read off the wire.
type op uint8

const (
	opNull op = iota + 1
	opBool
	opInt
	opLong
	opFloat
	opDouble
	opText
	opBytes
	opFixed
	opEnum
	opUUIDText
	opUUIDFixed
	opDate
	opClockInt
	opClockLong
	opTime
	opDecimal
	opDecimalFixed
	opArray
	opMap
	opRecord
	opUnion
	opNullable
)

// node is a type as a Selection reads it. Nodes are stricter than Decode, never more lenient: an array whose blocks give their size
// in bytes, a bad value under a key that comes a second time and the like count as bad here, and Decode has the last word.
type node struct {
	op   op
	size int           // of a fixed, in bytes
	unit time.Duration // of a time

	precision, scale int  // of a decimal
	loose            bool // a decimal in a union is not held to its precision

	symbols  []any // of an enum
	elem     *node // of an array, of a map; of a nullable, the value
	least    int   // bytes that an item of an array or an entry of a map takes at least
	null     int   // of a nullable, the number of the null branch
	branches []*node
	names    []string // of a record
	fields   []*node

	min    int // bytes that a value takes at least
	height int // levels of nesting
}

// read makes the value. Its result counts only if the cursor is not bad afterwards.
func (n *node) read(c *cursor) any {
	switch n.op {
	case opBool:
		if b := c.take(1); b != nil {
			return b[0] == 1
		}
	case opInt:
		return int64(c.int())
	case opLong:
		return c.long()
	case opFloat:
		return float64(math.Float32frombits(uint32(c.word(4))))
	case opDouble:
		return math.Float64frombits(c.word(8))
	case opText:
		return string(c.text())
	case opBytes:
		return append([]byte{}, c.bytes()...)
	case opFixed:
		return append([]byte{}, c.take(n.size)...)
	case opEnum:
		if i := c.index(len(n.symbols)); !c.bad {
			return n.symbols[i]
		}
	case opUUIDText:
		return c.uuid()
	case opUUIDFixed:
		if b := c.take(16); b != nil {
			return formatUUID([16]byte(b))
		}
	case opDate:
		return time.Unix(int64(c.int())*86400, 0).UTC()
	case opClockInt:
		return c.clock(int64(c.int()), n.unit)
	case opClockLong:
		return c.clock(c.long(), n.unit)
	case opTime:
		return instant(c.long(), n.unit)
	case opDecimal:
		return n.decimal(c, c.bytes())
	case opDecimalFixed:
		return n.decimal(c, c.take(n.size))
	case opArray:
		return n.list(c)
	case opMap:
		return n.mapping(c)
	case opRecord:
		m := make(map[string]any, len(n.fields))
		for i, f := range n.fields {
			m[n.names[i]] = f.read(c)
		}
		return m
	case opUnion:
		if i := c.index(len(n.branches)); !c.bad {
			return n.branches[i].read(c)
		}
	case opNullable:
		if i := c.index(2); !c.bad && i != n.null {
			return n.elem.read(c)
		}
	}
	return nil
}

// skip looks at a value as closely as read does, and makes nothing.
func (n *node) skip(c *cursor) {
	switch n.op {
	case opBool:
		c.take(1)
	case opInt, opDate:
		c.int()
	case opLong, opTime:
		c.long()
	case opFloat:
		c.take(4)
	case opDouble:
		c.take(8)
	case opText:
		c.text()
	case opBytes:
		c.bytes()
	case opFixed, opUUIDFixed:
		c.take(n.size)
	case opEnum:
		c.index(len(n.symbols))
	case opClockInt:
		c.clock(int64(c.int()), n.unit)
	case opClockLong:
		c.clock(c.long(), n.unit)
	case opDecimal:
		n.checkDecimal(c, c.bytes())
	case opDecimalFixed:
		n.checkDecimal(c, c.take(n.size))
	case opArray, opMap:
		for count := c.block(n.least); count > 0 && !c.bad; count = c.block(n.least) {
			for range count {
				if n.op == opMap {
					c.text()
				}
				if n.elem.skip(c); c.bad {
					return
				}
			}
		}
	case opRecord:
		for _, f := range n.fields {
			f.skip(c)
		}
	case opUnion:
		if i := c.index(len(n.branches)); !c.bad {
			n.branches[i].skip(c)
		}
	case opNullable:
		if i := c.index(2); !c.bad && i != n.null {
			n.elem.skip(c)
		}
	case opUUIDText:
		c.uuidBytes()
	}
}

func (n *node) list(c *cursor) any {
	list := []any{}
	for count := c.block(n.least); count > 0 && !c.bad; count = c.block(n.least) {
		if len(list) == 0 {
			list = make([]any, 0, count)
		}
		for range count {
			list = append(list, n.elem.read(c))
			if c.bad {
				return nil
			}
		}
	}
	return list
}

func (n *node) mapping(c *cursor) any {
	m := map[string]any{}
	for count := c.block(n.least); count > 0 && !c.bad; count = c.block(n.least) {
		for range count {
			key := string(c.text())
			m[key] = n.elem.read(c)
			if c.bad {
				return nil
			}
		}
	}
	return m
}

func instant(v int64, unit time.Duration) time.Time {
	switch unit {
	case time.Millisecond:
		return time.UnixMilli(v).UTC()
	case time.Microsecond:
		return time.UnixMicro(v).UTC()
	}
	return time.Unix(v/1e9, v%1e9).UTC()
}

// small reads a decimal of up to eight bytes, the usual case. ok says that it is one and within its precision.
func (n *node) small(b []byte) (v int64, ok bool) {
	if len(b) == 0 {
		return 0, true
	}
	if len(b) > 8 {
		return 0, false
	}
	v = int64(int8(b[0]))
	for _, x := range b[1:] {
		v = v<<8 | int64(x)
	}
	if n.loose || n.precision >= len(tens) {
		return v, true
	}
	limit := tens[n.precision]
	return v, v > -limit && v < limit
}

// tens are the powers of ten that fit.
var tens = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// maxDecimal is the size in bytes of the longest decimal that is read here.
const maxDecimal = 64

func (n *node) decimal(c *cursor, b []byte) any {
	if v, ok := n.small(b); ok && n.scale < len(tens) {
		return smallRat(v, n.scale)
	}
	if len(b) > maxDecimal {
		c.fail()
		return nil
	}
	r := lib.RatFromBytes(b, n.scale)
	if !n.loose && fitsDecimal(r, n.precision, n.scale) != nil {
		c.fail()
	}
	return r
}

func (n *node) checkDecimal(c *cursor, b []byte) {
	if _, ok := n.small(b); !ok {
		n.decimal(c, b)
	}
}

// smallRat is v / 10^scale. Only twos and fives can be cancelled, so that it need not look for a common divisor.
func smallRat(v int64, scale int) *big.Rat {
	if v == 0 {
		return new(big.Rat).SetInt64(0)
	}
	twos, fives := min(bits.TrailingZeros64(uint64(v)), scale), 0
	v >>= twos
	for fives < scale && v%5 == 0 {
		v /= 5
		fives++
	}
	r := new(big.Rat).SetInt64(v)
	if twos < scale || fives < scale {
		r.Denom().SetInt64(tens[scale] >> twos / powersOf5[fives])
	}
	return r
}

var powersOf5 = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 5 * p[i-1]
	}
	return p
}()
