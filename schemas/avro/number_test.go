package avro

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The short cut of fitsDecimal never says more than counting the digits does.
func TestFitsDecimalCountsDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		precision := rapid.IntRange(1, 60).Draw(t, "precision")
		scale := rapid.IntRange(0, precision).Draw(t, "scale")
		digits := rapid.StringMatching(`-?[0-9]{1,62}`).Draw(t, "digits")
		n, _ := new(big.Int).SetString(digits, 10)
		r := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
		want := len(new(big.Int).Abs(n).String()) <= precision
		if got := fitsDecimal(r, precision, scale) == nil; got != want {
			t.Fatalf("%s in decimal(%d,%d): %v", r.FloatString(scale), precision, scale, got)
		}
	})
}

// Two's complement is as Java's BigInteger has it: the fewest bytes that keep the sign.
func TestTwosComplement(t *testing.T) {
	for n, want := range map[int64]string{
		0: "\x00", 1: "\x01", -1: "\xff", 127: "\x7f", 128: "\x00\x80", -128: "\x80", -129: "\xff\x7f", 255: "\x00\xff", -256: "\xff\x00", 32768: "\x00\x80\x00",
	} {
		got, err := twosComplement(big.NewInt(n), 0)
		if err != nil || string(got) != want {
			t.Errorf("%d: %x, %v; want %x", n, got, err, want)
		}
	}
	for n, ok := range map[int64]bool{127: true, 128: false, -128: true, -129: false} {
		if _, err := twosComplement(big.NewInt(n), 1); (err == nil) != ok {
			t.Errorf("%d in one byte: %v", n, err)
		}
	}
	if got, err := twosComplement(big.NewInt(-2), 3); err != nil || string(got) != "\xff\xff\xfe" {
		t.Errorf("-2 in three bytes: %x, %v", got, err)
	}
}
