package avro

// Kind is what the values of a field are.
type Kind int

// The Go value that Decode gives for each kind; null is nil.
const (
	Bool      Kind = iota + 1 // bool
	Int                       // int64, of 32 bits on the wire
	Long                      // int64
	Float                     // float64, of 32 bits on the wire
	Double                    // float64
	String                    // string
	Bytes                     // []byte: bytes, fixed, and the logical types duration and big-decimal as they came
	Enum                      // string, one of Symbols
	UUID                      // string, in the form 8-4-4-4-12
	Date                      // time.Time, midnight UTC
	TimeOfDay                 // time.Duration since midnight
	Timestamp                 // time.Time, UTC
	Decimal                   // *big.Rat
	Array                     // []any of Elem
	Map                       // map[string]any of Elem
	Record                    // map[string]any of Fields
	Union                     // a value of one of the branches, bare; unions of null and one other type are Nullable instead
	Null                      // always nil
)

var kindNames = [...]string{
	Bool: "bool", Int: "int", Long: "long", Float: "float", Double: "double", String: "string", Bytes: "bytes",
	Enum: "enum", UUID: "uuid", Date: "date", TimeOfDay: "time of day", Timestamp: "timestamp", Decimal: "decimal",
	Array: "array", Map: "map", Record: "record", Union: "union", Null: "null",
}

// String names the kind.
func (k Kind) String() string {
	if k < Bool || k > Null {
		return "no kind"
	}
	return kindNames[k]
}

// Type describes the values of a field.
type Type struct {
	Kind Kind
	// Nullable says that null is allowed.
	Nullable bool
	// Precision and Scale are those of a Decimal, in decimal digits.
	Precision, Scale int
	// Elem is the type of an Array's items and of a Map's values.
	Elem *Type
	// Fields are the fields of a Record in order; none where a record contains itself.
	Fields []Field
	// Symbols are those of an Enum.
	Symbols []string
	// Name is the full name of a record, enum or fixed type.
	Name string
}

// Field is a field of a record.
type Field struct {
	Name string
	Type Type
}
