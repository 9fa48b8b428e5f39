// Package query turns the text that a stranger searches for into clauses on the columns of one entity, the same for every backend.
//
// Every field named is one of the entity's, every value is of its column's kind, words are cut as texts are, and what would visit too
// much of an index is refused before one sees it. What is left for a backend is to write each [Clause] in its own terms.
//
//	entity.go  which columns are searched, and how
//	clause.go  what a query is made of
//	parse.go   the text, clause by clause (values.go: numbers, times and patterns)
package query
