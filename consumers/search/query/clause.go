package query

import "time"

// Op is what a clause asks of a field.
type Op int

// What a clause asks for.
const (
	Term    Op = iota + 1 // the whole of a keyword, or the entity's key, is Text, within Fuzziness typing errors
	Words                 // Terms stand behind one another; a single one may be within Fuzziness typing errors
	Pattern               // a keyword, or a word, looks like Text, in which * and ? are wildcards
	Numbers               // a number between Min and Max
	Times                 // a time between From and To
	Is                    // true or false, as Value says
)

// Clause is one condition on one field.
type Clause struct {
	Op Op
	// Field is the column. Its name is empty for the words of all texts, the key included; see Key.
	Field Field
	// Key says that the entity's key is meant and not a column.
	Key bool

	// Text is what stands in the query: of Words and Numbers as well.
	Text string
	// Terms are the words of Text, as texts are cut into words.
	Terms     []string
	Fuzziness int
	// Prefix is what stands before the first wildcard of a Pattern.
	Prefix string
	// Min and Max are the ends of a range of numbers; nil for none. WithMin and WithMax say whether an end belongs to the range,
	// of times as well.
	Min, Max         *float64
	WithMin, WithMax bool
	// From and To are the ends of a range of times; zero for none.
	From, To time.Time
	Value    bool
	// Boost is how much the clause counts for the score; 1 unless the query says otherwise.
	Boost float64
}

// Query is what a text asks for: documents for which each of Must, one of Any if there are any, and none of MustNot is so. Should
// only makes the score better.
type Query struct {
	// Nothing says that no document matches.
	Nothing                    bool
	Must, Any, Should, MustNot []Clause
}
