package projection

// Kind is the kind of a column's values.
type Kind int

// The Go value of each kind, as it stands in a state: nil is the null of every kind.
const (
	Bool      Kind = iota + 1 // bool
	Int                       // int64
	Float                     // float64
	Text                      // string
	Bytes                     // []byte
	Date                      // time.Time, midnight UTC
	Timestamp                 // time.Time, UTC, microseconds
	Duration                  // time.Duration, microseconds
	Decimal                   // *big.Rat that fits Precision and Scale exactly
	List                      // []any of Elem
	JSON                      // any of the decoded values: records, maps, unions
)

// Type is the type of a column.
type Type struct {
	Kind Kind
	// Precision and Scale are those of a Decimal.
	Precision, Scale int
	// Elem is the type of a List's elements.
	Elem *Type
}

// Column is one typed field of an entity's state. Every column can be null.
type Column struct {
	Name string
	Type Type
}

// State is what the events of one key have made of its entity.
type State struct {
	// Exists is false before the first event and after a deletion; Values is then nil.
	Exists bool
	// Values stand in the order of the projection's columns.
	Values []any
}
