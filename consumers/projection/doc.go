// Package projection says how events become the state of an entity: a declaration in YAML, with expressions in CEL, from which the
// warehouse's table, the search document and the cache keys all come.
//
//	entity: order
//	topic: shop.orders
//	columns: {paid: "decimal(12,2)"}      # only where the type cannot be told from the expressions
//	on:
//	  shop.OrderPlaced:  {set: {status: "'placed'", customer_id: event.customer_id, total: event.total}}
//	  shop.OrderPaid:    {set: {status: "'paid'", paid: state.?paid.orValue(decimal(0)) + event.amount}}
//	  shop.OrderDeleted: {delete: true}
//	cache: {keys: ["'order:' + key", "'customer-orders:' + state.customer_id"]}
//	# cache: {keys: […], version: row_version} tells old rows of a replica from new ones, see package cache
//	search: {text: [note], keyword: [status, customer_id]}
//
// An expression sees event (the fields of this event type; another name is an error when the file is loaded), state (the columns
// before the event), key, version, time and type (of the event). It has CEL's standard functions, its string functions, optional
// values and decimal(x), and neither a clock nor randomness: folding the same events gives the same states.
//
// The rules:
//
//   - set evaluates all its expressions against the state before the event. Columns it does not name keep their value, at first
//     null. The first event of a key creates the state; so does the first set after a delete, from nulls.
//   - Any column can be null, and a field of null is null. has(event.note) and event.?note.orValue('none') tell.
//   - An event type that the declaration does not name changes nothing.
//   - A value is stored exactly or the event is poison: nothing is rounded, cut or passed through a float.
//   - An evaluation that costs too much is poison, too: no event keeps a fold busy for ever.
//
// In the order of use: load.go and yaml.go read files, declaration.go holds what they say, infer.go and compile.go make a
// Projection of it with expression.go and concat.go (environment.go, provider.go, celvalue.go and celdecimal.go are CEL's side), projection.go
// folds by the rules of rule.go what input.go reads of an event, func.go takes Go functions for a declaration, coerce.go guards what enters a column, and state.go and document.go are for backends.
package projection
