package projection

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Parts tells the parts of a declaration apart, so that a store can say what of it has changed when its digest has.
type Parts struct {
	// Existence is a digest of what makes a state begin and end: entity, topic, and which events set and which delete.
	Existence string
	// Columns are digests of what sets each column: the events and their expressions, not its type.
	Columns map[string]string
	// Reads are the columns that the expressions of each column read: one that reads a column set by other rules than before changes with it.
	Reads map[string][]string
}

// Parts returns the digests of the declaration's parts. Two declarations whose parts are equal, and whose columns have the same types,
// make the same states.
func (p *Projection) Parts() Parts {
	var existence strings.Builder
	fmt.Fprintf(&existence, "millrace projection parts 1\nentity %q\ntopic %q\n", p.entity, p.topic)
	columns := make([]strings.Builder, len(p.columns))
	reads := make([][]string, len(p.columns))
	for _, name := range sortedNames(p.rules) {
		r := p.rules[name]
		fmt.Fprintf(&existence, "on %q delete %t\n", name, r.delete)
		for _, s := range r.set {
			fmt.Fprintf(&columns[s.column], "on %q set %q\n", name, s.expr.text)
			reads[s.column] = append(reads[s.column], s.expr.refs.state...)
		}
	}
	out := Parts{Existence: digestText(existence.String()), Columns: make(map[string]string, len(columns)), Reads: map[string][]string{}}
	for i, c := range p.columns {
		out.Columns[c.Name] = digestText(columns[i].String())
		if slices.Sort(reads[i]); len(reads[i]) > 0 {
			out.Reads[c.Name] = slices.Compact(reads[i])
		}
	}
	return out
}

func digestText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
