package compare

import "github.com/millrace/millrace/consumers/fold"

// Changes lists the columns that two declarations of an entity make in different ways, those that are added last: what Generations would list, without looking at
// any state. A column whose own rules are the same is among them if they read one that is not.
func Changes(before, after fold.Projection) []ChangedColumn {
	var out []ChangedColumn
	for _, m := range newPlan(before, after, 1).changed {
		out = append(out, ChangedColumn{Column: m.name, How: m.how})
	}
	return out
}
