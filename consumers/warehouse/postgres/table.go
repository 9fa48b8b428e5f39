package postgres

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/consumers/projection"
)

// table is an entity of a generation: the table in silver_base, and the statements on it.
type table struct {
	entity string
	name   string // in silver_base
	stage  string // the temporary table that batches are copied into
	shape  shape
	// cols are the declared columns, in the order of states; names are their identifiers.
	cols  []projection.Column
	names []string
}

// shape is what a table was made for; it is kept as JSON in millrace.entities.
type shape struct {
	// Existence is the digest of what makes a state begin and end; see projection.Parts. Empty: the declaration does not tell.
	Existence string   `json:"existence,omitempty"`
	Columns   []column `json:"columns"`
}

// column is one column of a table, in the order of the view.
type column struct {
	Name   string `json:"name"`   // as it is declared
	Column string `json:"column"` // its identifier
	Type   string `json:"type"`   // as declarations spell it
	// Rule is the digest of what sets the column; empty if the declaration does not tell.
	Rule string `json:"rule,omitempty"`
	// Added says that the column came to a table that had rows.
	Added bool `json:"added,omitempty"`
	// Gone says that it is no longer declared. It stays as it was.
	Gone bool `json:"gone,omitempty"`
}

// Every table begins with these columns, and ends with _exact.
var headNames = []string{"_key", "_version", "_event_id", "_event_time", "_deleted"}

const headTypes = `_key text COLLATE "C" NOT NULL PRIMARY KEY, _version bigint NOT NULL, _event_id text, _event_time timestamptz, _deleted boolean NOT NULL`

// create makes the table. Updates find room on the row's own page, and touch no index then.
func (t *table) create(s space) string {
	defs := []string{headTypes, "_long_key text"}
	for i, c := range t.cols {
		defs = append(defs, quote(t.names[i])+" "+sqlType(c.Type))
	}
	defs = append(defs, "_exact bytea")
	return "CREATE TABLE " + t.full(s) + " (" + strings.Join(defs, ", ") + ") WITH (fillfactor = 85)"
}

func (t *table) full(s space) string { return s.base + "." + quote(t.name) }

func (t *table) view(s space) string { return s.silver + "." + quote(identifier(t.entity)) }

// viewQuery is what the view shows: what came first stays first, for a view cannot move its columns.
func (t *table) viewQuery(s space) string {
	names, added := []string{"_key"}, []string{}
	for _, c := range t.shape.Columns {
		if c.Added {
			added = append(added, quote(c.Column))
			continue
		}
		names = append(names, quote(c.Column))
	}
	names = append(append(names, "_version", "_event_time"), added...)
	return "SELECT " + strings.Join(names, ", ") + " FROM " + t.full(s) + " WHERE NOT _deleted"
}

// written are the columns that a batch writes, in the order of its rows.
func (t *table) written() []string {
	out := append([]string{}, headNames...)
	out = append(out, "_long_key")
	for _, n := range t.names {
		out = append(out, quote(n))
	}
	return append(out, "_exact")
}

// stageStatement makes the staging table of a connection. It has the types of the table, and is empty at the end of a transaction.
func (t *table) stageStatement(s space) string {
	return "CREATE TEMPORARY TABLE " + quote(t.stage) + " ON COMMIT DELETE ROWS AS SELECT " + strings.Join(t.written(), ", ") + " FROM " + t.full(s) + " WITH NO DATA"
}

func (t *table) copyStatement() string {
	return "COPY pg_temp." + quote(t.stage) + " (" + strings.Join(t.written(), ", ") + ") FROM STDIN (FORMAT binary)"
}

// upsertStatement stores the staged rows where they are new or of a greater version. The rows are staged in order of their keys,
// which is the order of the index.
//
// Promise 4: a state that was stored already, or overtaken, changes nothing.
func (t *table) upsertStatement(s space) string { return t.putStatement(s, ">") }

// replaceStatement stores the staged rows where there is none of a greater version: they were folded anew.
func (t *table) replaceStatement(s space) string { return t.putStatement(s, ">=") }

func (t *table) putStatement(s space, newer string) string {
	names := t.written()
	sets := make([]string, 0, len(names))
	for _, n := range names[1:] {
		sets = append(sets, n+" = excluded."+n)
	}
	list := strings.Join(names, ", ")
	return "INSERT INTO " + t.full(s) + " AS t (" + list + ") SELECT " + list + " FROM pg_temp." + quote(t.stage) +
		" ON CONFLICT (_key) DO UPDATE SET " + strings.Join(sets, ", ") + " WHERE excluded._version " + newer + " t._version"
}

// loadStatement reads the states of a list of keys. What is held as jsonb comes from _exact.
func (t *table) loadStatement(s space) string {
	return t.readStatement(s, "_key") + " WHERE _key = ANY($1)"
}

// allStatement reads all states, by their whole keys.
func (t *table) allStatement(s space) string { return t.readStatement(s, "coalesce(_long_key, _key)") }

func (t *table) readStatement(s space, key string) string {
	names := append([]string{key}, headNames[1:]...)
	names = append(names, "_exact")
	for i, c := range t.cols {
		if !heldAsJSON(c.Type) {
			names = append(names, quote(t.names[i]))
		}
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM " + t.full(s)
}

// sqlType is how Postgres keeps a column.
func sqlType(t projection.Type) string {
	switch t.Kind {
	case projection.Bool:
		return "boolean"
	case projection.Int:
		return "bigint"
	case projection.Float:
		return "double precision"
	case projection.Text:
		return "text"
	case projection.Bytes:
		return "bytea"
	case projection.Date:
		return "date"
	case projection.Timestamp:
		return "timestamptz"
	case projection.Duration:
		return "interval"
	case projection.Decimal:
		return fmt.Sprintf("numeric(%d,%d)", t.Precision, t.Scale)
	case projection.List:
		if !heldAsJSON(t) {
			return sqlType(*t.Elem) + "[]"
		}
	}
	return "jsonb"
}

// heldAsJSON says whether a column is jsonb: records, and lists in lists, which an array can hold only if all are of one length. What
// jsonb does not tell apart (1 and 1.0, a time and a text) stands in _exact.
func heldAsJSON(t projection.Type) bool {
	return t.Kind == projection.JSON || t.Kind == projection.List && (t.Elem.Kind == projection.List || heldAsJSON(*t.Elem))
}

// checkType says what is wrong with the type of a declared column.
func checkType(t projection.Type) error {
	switch {
	case t.Kind == projection.List && t.Elem == nil:
		return fmt.Errorf("a list needs the type of its elements")
	case t.Kind == projection.List:
		return checkType(*t.Elem)
	case t.Kind == projection.Decimal && (t.Precision < 1 || t.Precision > projection.MaxPrecision || t.Scale < 0 || t.Scale > t.Precision):
		return fmt.Errorf("%s: the precision is 1 to %d, the scale 0 to the precision", t, projection.MaxPrecision)
	case t.Kind < projection.Bool || t.Kind > projection.JSON:
		return fmt.Errorf("%s has no SQL type", t)
	}
	return nil
}
