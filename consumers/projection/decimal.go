package projection

import (
	"fmt"
	"math/big"
)

// maxDecimalBytes bounds the magnitude of a decimal inside an encoded state or a text: far beyond any precision a backend has.
const maxDecimalBytes = 1024

// MaxPrecision is the greatest precision a Decimal column can have, in digits. Every warehouse holds 38.
const MaxPrecision = 38

// Unscaled returns r times 10^scale, the whole number under which a decimal of that precision and scale is kept. It fails if r
// does not fit exactly: too many digits behind the point, or too many altogether.
func Unscaled(r *big.Rat, precision, scale int) (*big.Int, error) {
	if n, ok := unscaledSmall(r, precision, scale); ok {
		return big.NewInt(n), nil
	}
	n := new(big.Int).Mul(r.Num(), pow10(scale))
	n, rest := n.QuoRem(n, r.Denom(), new(big.Int))
	if rest.Sign() != 0 {
		return nil, fmt.Errorf("%s has more than %d digits behind the point", ratText(r), scale)
	}
	if n.CmpAbs(pow10(precision)) >= 0 {
		return nil, fmt.Errorf("%s does not fit decimal(%d,%d)", ratText(r), precision, scale)
	}
	return n, nil
}

// ratText is the number in full where it is finite, else as a fraction; for messages and documents. It never rounds.
func ratText(r *big.Rat) string {
	if digits, exact := r.FloatPrec(); exact {
		return r.FloatString(digits)
	}
	return r.String()
}

var powers = func() (p [MaxPrecision + 1]*big.Int) {
	for i := range p {
		p[i] = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(i)), nil)
	}
	return p
}()

// pow10 returns 10^n. The result is shared: read it only.
func pow10(n int) *big.Int {
	if n >= 0 && n < len(powers) {
		return powers[n]
	}
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}
