package devregistry

import (
	"slices"

	lib "github.com/twmb/avro"
)

// The compatibility levels: who must be able to read whose data, and how far back.
const (
	None               = "NONE"
	Backward           = "BACKWARD" // the new schema reads data of the newest version before
	BackwardTransitive = "BACKWARD_TRANSITIVE"
	Forward            = "FORWARD" // the newest version before reads data of the new schema
	ForwardTransitive  = "FORWARD_TRANSITIVE"
	Full               = "FULL" // both
	FullTransitive     = "FULL_TRANSITIVE"
)

var levels = []string{None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive}

func transitive(level string) bool {
	return level == BackwardTransitive || level == ForwardTransitive || level == FullTransitive
}

// check says why next breaks the level with one older schema; nil if it does not.
func check(level string, next, older *lib.Schema, name string) []string {
	var reasons []string
	if slices.Contains([]string{Backward, BackwardTransitive, Full, FullTransitive}, level) {
		if err := lib.CheckCompatibility(older, next); err != nil {
			reasons = append(reasons, "the new schema cannot read data of "+name+": "+err.Error())
		}
	}
	if slices.Contains([]string{Forward, ForwardTransitive, Full, FullTransitive}, level) {
		if err := lib.CheckCompatibility(next, older); err != nil {
			reasons = append(reasons, name+" cannot read data of the new schema: "+err.Error())
		}
	}
	return reasons
}
