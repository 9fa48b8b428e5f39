package flights

import (
	"math/big"
	"slices"
)

// Carrier is what the questions about one carrier are answered with.
type Carrier struct {
	Flights, Cancelled, Departed int64
	// DelaySum is the sum of all departure delays, in minutes.
	DelaySum int64
}

// MeanDelay is the mean departure delay in minutes, to six digits.
func (c Carrier) MeanDelay() string {
	if c.Departed == 0 {
		return ""
	}
	return big.NewRat(c.DelaySum, c.Departed).FloatString(6)
}

// ByCarrier answers from the rows.
func ByCarrier(flights []Flight) map[string]Carrier {
	out := map[string]Carrier{}
	for _, f := range flights {
		c := out[f.Carrier]
		c.Flights++
		if f.cancelled() {
			c.Cancelled++
		} else {
			c.Departed++
			c.DelaySum += int64(*f.DepDelay)
		}
		out[f.Carrier] = c
	}
	return out
}

// ByTail are the keys of the flights of one aircraft, sorted.
func ByTail(flights []Flight, tail string) []string {
	var out []string
	for _, f := range flights {
		if f.Tailnum != nil && *f.Tailnum == tail {
			out = append(out, f.Key())
		}
	}
	slices.Sort(out)
	return out
}
