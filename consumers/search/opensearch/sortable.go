package opensearch

import (
	"math/big"
	"strings"

	"github.com/millrace/millrace/consumers/projection"
)

// What compares below and above every sortable form.
const (
	belowAll = ""
	aboveAll = "2"
)

// sortable writes a decimal as text that compares as the number does: a digit for the sign, then Precision digits, of a negative
// number their complement to nine. It is for decimals that a double cannot tell apart. A number between two that the type can hold
// becomes the lower one, and exact is false.
func sortable(t projection.Type, x *big.Rat) (text string, exact bool) {
	scaled := new(big.Rat).Mul(x, new(big.Rat).SetInt(pow10(t.Scale)))
	whole, rest := new(big.Int).DivMod(scaled.Num(), scaled.Denom(), new(big.Int)) // the rest is not below 0
	exact = rest.Sign() == 0
	digits := new(big.Int).Abs(whole).String()
	switch {
	case len(digits) > t.Precision && whole.Sign() > 0:
		return aboveAll, exact
	case len(digits) > t.Precision:
		return belowAll, exact
	}
	digits = strings.Repeat("0", t.Precision-len(digits)) + digits
	if whole.Sign() >= 0 {
		return "1" + digits, exact
	}
	b := []byte("0" + digits)
	for i := 1; i < len(b); i++ {
		b[i] = '0' + '9' - b[i]
	}
	return string(b), exact
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
