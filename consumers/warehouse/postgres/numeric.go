package postgres

import (
	"errors"
	"math/big"
	"math/bits"

	"github.com/millrace/millrace/consumers/projection"
)

// A numeric is digits to the base 10,000, the most significant first: count, weight of the first, sign, digits behind the point that
// are shown, digits.
const (
	numericNegative = 0x4000
	numericSpecial  = 0xC000 // NaN and the infinities
)

var powers = func() (p [19]int64) {
	p[0] = 1
	for i := range len(p) - 1 {
		p[i+1] = p[i] * 10
	}
	return p
}()

// appendNumeric appends a decimal as a numeric, exactly.
func appendNumeric(b []byte, t projection.Type, r *big.Rat) ([]byte, error) {
	if n, ok := smallUnscaled(r, t); ok {
		negative := n < 0
		if negative {
			n = -n
		}
		return appendDigits(b, uint64(n), negative, t.Scale), nil
	}
	n, err := projection.Unscaled(r, t.Precision, t.Scale)
	if err != nil {
		return b, err
	}
	return appendLargeDigits(b, n, t.Scale), nil
}

// smallUnscaled is r times 10^scale where all of it fits 64 bits and the type; most money does.
func smallUnscaled(r *big.Rat, t projection.Type) (int64, bool) {
	if t.Scale >= len(powers) || !r.Num().IsInt64() || !r.Denom().IsInt64() {
		return 0, false
	}
	num, den, pow := r.Num().Int64(), r.Denom().Int64(), powers[t.Scale]
	if pow%den != 0 || num == -num && num != 0 {
		return 0, false
	}
	size := uint64(num)
	if num < 0 {
		size = uint64(-num)
	}
	hi, lo := bits.Mul64(size, uint64(pow/den))
	if hi != 0 || lo >= uint64(powers[min(t.Precision, len(powers)-1)]) {
		return 0, false
	}
	if num < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

// appendDigits appends n / 10^scale. The scale is made a multiple of four first, so that the point falls between digits.
func appendDigits(b []byte, n uint64, negative bool, scale int) []byte {
	var digits [8]uint16 // at most 20 decimal digits and 3 more, the least significant first
	count, behind := 0, (scale+3)/4
	if shift := behind*4 - scale; shift > 0 && n > 0 {
		// The lowest digit takes what is left of the point's group.
		low := uint64(powers[4-shift])
		digits[0] = uint16(n % low * uint64(powers[shift]))
		n /= low
		count = 1
	}
	for ; n > 0; n /= 10000 {
		digits[count] = uint16(n % 10000)
		count++
	}
	return appendGroups(b, digits[:count], behind, negative, scale)
}

func appendLargeDigits(b []byte, n *big.Int, scale int) []byte {
	behind := (scale + 3) / 4
	m := new(big.Int).Abs(n)
	m.Mul(m, big.NewInt(powers[behind*4-scale]))
	base, rest := big.NewInt(10000), new(big.Int)
	var digits []uint16
	for m.Sign() > 0 {
		m.QuoRem(m, base, rest)
		digits = append(digits, uint16(rest.Uint64()))
	}
	return appendGroups(b, digits, behind, n.Sign() < 0, scale)
}

// appendGroups appends a numeric whose digits, the least significant first, have so many behind the point.
func appendGroups(b []byte, digits []uint16, behind int, negative bool, scale int) []byte {
	weight := len(digits) - behind - 1
	for len(digits) > 0 && digits[0] == 0 {
		digits = digits[1:]
	}
	for len(digits) > 0 && digits[len(digits)-1] == 0 {
		digits, weight = digits[:len(digits)-1], weight-1
	}
	sign := uint16(0)
	if negative {
		sign = numericNegative
	}
	if len(digits) == 0 {
		weight, sign = 0, 0
	}
	b = be.AppendUint32(b, uint32(8+2*len(digits)))
	b = be.AppendUint16(b, uint16(len(digits)))
	b = be.AppendUint16(b, uint16(int16(weight)))
	b = be.AppendUint16(b, sign)
	b = be.AppendUint16(b, uint16(scale))
	for i := len(digits) - 1; i >= 0; i-- {
		b = be.AppendUint16(b, digits[i])
	}
	return b
}

var errNumeric = errors.New("the numeric is not as it was written")

// numericOf reads what appendNumeric wrote.
func numericOf(b []byte) (*big.Rat, error) {
	if len(b) < 8 {
		return nil, errNumeric
	}
	count, weight, sign := int(be.Uint16(b)), int(int16(be.Uint16(b[2:]))), be.Uint16(b[4:])
	if len(b) != 8+2*count || sign&numericSpecial == numericSpecial {
		return nil, errNumeric
	}
	if count <= 4 { // 16 digits fit 64 bits
		var n int64
		for i := range count {
			n = n*10000 + int64(be.Uint16(b[8+2*i:]))
		}
		if sign == numericNegative {
			n = -n
		}
		if behind := count - 1 - weight; behind >= 0 && behind <= 4 {
			return big.NewRat(n, powers[4*behind]), nil
		}
		return scaled(big.NewInt(n), weight+1-count), nil
	}
	n, base, digit := new(big.Int), big.NewInt(10000), new(big.Int)
	for i := range count {
		n.Add(n.Mul(n, base), digit.SetInt64(int64(be.Uint16(b[8+2*i:]))))
	}
	if sign == numericNegative {
		n.Neg(n)
	}
	return scaled(n, weight+1-count), nil
}

// scaled is n times 10,000^groups.
func scaled(n *big.Int, groups int) *big.Rat {
	pow := new(big.Int).Exp(big.NewInt(10000), big.NewInt(int64(max(groups, -groups))), nil)
	if groups >= 0 {
		return new(big.Rat).SetInt(n.Mul(n, pow))
	}
	return new(big.Rat).SetFrac(n, pow)
}
