package avro

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

var (
	errNotNumber = errors.New("is not a number")
	errFraction  = errors.New("has more decimals than the schema's scale")
	errDigits    = errors.New("has more digits than the schema allows")
)

const (
	// maxExponent bounds the exponent of a number in text: 1e999999999 is a few bytes and a gigabyte.
	maxExponent = 100_000
	// maxPlainDigits bounds integers where no precision does.
	maxPlainDigits = 32
)

// unscaled reads a decimal number in text as a whole number of units of 10^-scale, exactly or not at all. The number may
// have at most precision digits, counted with those of the scale.
func unscaled(text string, precision, scale int) (*big.Int, error) {
	negative, digits, exponent, ok := splitNumber(text)
	if !ok {
		return nil, errNotNumber
	}
	if digits == "" {
		return new(big.Int), nil
	}
	zeros := exponent + scale
	switch {
	case zeros < 0:
		return nil, errFraction
	case len(digits)+zeros > precision:
		return nil, errDigits
	}
	n, ok := new(big.Int).SetString(digits+strings.Repeat("0", zeros), 10)
	if !ok {
		return nil, errNotNumber
	}
	if negative {
		n.Neg(n)
	}
	return n, nil
}

// splitNumber takes JSON's form of a number apart: its value is digits * 10^exponent, and digits neither begins nor ends
// with a zero; it is empty for zero.
func splitNumber(text string) (negative bool, digits string, exponent int, ok bool) {
	mantissa, exp, hasExp := cutExponent(text)
	if hasExp {
		e, err := strconv.Atoi(exp)
		if err != nil || e > maxExponent || e < -maxExponent {
			return false, "", 0, false
		}
		exponent = e
	}
	if rest, minus := strings.CutPrefix(mantissa, "-"); minus {
		negative, mantissa = true, rest
	} else {
		mantissa = strings.TrimPrefix(mantissa, "+")
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false, "", 0, false
	}
	exponent -= len(fraction)
	digits = strings.TrimLeft(digits, "0")
	short := strings.TrimRight(digits, "0")
	return negative, short, exponent + len(digits) - len(short), true
}

func cutExponent(text string) (mantissa, exponent string, ok bool) {
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
}

// wholeNumber reads an integer from text; 1.0 and 1e3 are integers as well.
func wholeNumber(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	n, err := unscaled(text, maxPlainDigits, 0)
	if errors.Is(err, errFraction) {
		return 0, errors.New("is not a whole number")
	}
	if err != nil {
		return 0, err
	}
	if !n.IsInt64() {
		return 0, errors.New("does not fit 64 bits")
	}
	return n.Int64(), nil
}

// unscaledRat is unscaled for a ratio: 1/3 has no decimal form and is refused.
func unscaledRat(r *big.Rat, precision, scale int) (*big.Int, error) {
	factor := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	n := factor.Mul(factor, r.Num())
	n, rest := n.QuoRem(n, r.Denom(), new(big.Int))
	if rest.Sign() != 0 {
		return nil, errFraction
	}
	return n, checkDigits(n, precision)
}

// fitsDecimal checks a ratio that was decoded. Most are decided by their size in bits, for ten is between 2^3.321 and
// 2^3.322.
func fitsDecimal(r *big.Rat, precision, scale int) error {
	most := r.Num().BitLen() - r.Denom().BitLen() + 1 + scale*3322/1000 + 1
	if most <= precision*3321/1000 {
		return nil
	}
	_, err := unscaledRat(r, precision, scale)
	return err
}

func checkDigits(n *big.Int, precision int) error {
	// A digit is more than 3.32 bits: only a number near the limit has to be written out to be counted.
	if n.BitLen() < precision*3 {
		return nil
	}
	if len(new(big.Int).Abs(n).String()) > precision {
		return errDigits
	}
	return nil
}

// twosComplement writes n big-endian in as few bytes as hold it, or in size bytes if size is not 0.
func twosComplement(n *big.Int, size int) ([]byte, error) {
	width := n.BitLen()/8 + 1
	if n.Sign() < 0 {
		// -128 fits one byte though 128 does not.
		width = new(big.Int).Not(n).BitLen()/8 + 1
	}
	if size == 0 {
		size = width
	}
	if width > size {
		return nil, errDigits
	}
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(size)*8))
	}
	return n.FillBytes(make([]byte, size)), nil
}
