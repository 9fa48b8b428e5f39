package rebuild

import (
	"slices"

	"github.com/millrace/millrace/consumers/fold"
)

// Differs names the entities whose declarations are not those that the generation is built by, sorted: changed, added or gone. It is empty for a generation of which
// nothing is recorded.
func (g *Generation) Differs(declared []fold.Projection) []string {
	if g == nil {
		return nil
	}
	var names []string
	here := map[string]bool{}
	for _, p := range declared {
		here[p.Entity()] = true
		if g.Digests[p.Entity()] != p.Digest() {
			names = append(names, p.Entity())
		}
	}
	for entity := range g.Digests {
		if !here[entity] {
			names = append(names, entity)
		}
	}
	slices.Sort(names)
	return names
}
