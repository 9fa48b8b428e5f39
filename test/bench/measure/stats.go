// Package measure holds the helpers of the benchmarks: statistics, and what processes and the machine have used.
package measure

import (
	"math"
	"slices"
)

// Median returns the middle value, between the two middle ones if they are even in number; NaN of nothing.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Percentile returns the smallest of the sorted values that at least the fraction p of them does not exceed
// (nearest rank); NaN of nothing.
func Percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
