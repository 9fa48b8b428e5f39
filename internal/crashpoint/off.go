//go:build !crashpoints

package crashpoint

// Reach is called when a point is reached; in the product nothing happens.
func Reach(string) {}
