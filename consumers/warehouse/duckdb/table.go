//go:build cgo

package duckdb

import (
	"fmt"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// table is one generation of an entity: the table in silver_base and the statements on it.
type table struct {
	entity string
	name   string
	cols   []projection.Column
	// exact are the columns that hold JSON, and exactAt where they stand in cols. Their values go into the column _exact as well, for
	// JSON text does not tell an integer from a float, or a time from a text.
	exact   []projection.Column
	exactAt []int
	// names and types are those of the rows handed to DuckDB.
	names []string
	types []duckdb.TypeInfo
	merge string
	clear string
	fill  string
	load  string
	page  string
}

// Every table begins with these columns.
var headNames = []string{"_key", "_version", "_event_id", "_event_time", "_deleted"}

var headTypes = []duckdb.Type{duckdb.TYPE_VARCHAR, duckdb.TYPE_BIGINT, duckdb.TYPE_VARCHAR, duckdb.TYPE_TIMESTAMP, duckdb.TYPE_BOOLEAN}

func newTable(p fold.Projection, name string) (*table, error) {
	t := &table{entity: p.Entity(), name: name, cols: p.Columns(), names: append([]string{}, headNames...)}
	for _, ht := range headTypes {
		info, err := duckdb.NewTypeInfo(ht)
		if err != nil {
			return nil, err
		}
		t.types = append(t.types, info)
	}
	for i, c := range t.cols {
		info, err := appendType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("entity %s: column %s: %w", t.entity, c.Name, err)
		}
		t.names, t.types = append(t.names, c.Name), append(t.types, info)
		if holdsJSON(c.Type) {
			t.exact, t.exactAt = append(t.exact, c), append(t.exactAt, i)
		}
	}
	if len(t.exact) > 0 {
		info, err := duckdb.NewTypeInfo(duckdb.TYPE_BLOB)
		if err != nil {
			return nil, err
		}
		t.names, t.types = append(t.names, "_exact"), append(t.types, info)
	}
	t.merge, t.clear, t.fill = t.mergeStatement(), t.clearStatement(), t.fillStatement()
	t.load, t.page = t.readStatement("_key IN (SELECT unnest(?::VARCHAR[]))"), t.readStatement("rowid >= ? AND rowid < ?")
	return t, nil
}

func holdsJSON(t projection.Type) bool {
	return t.Kind == projection.JSON || t.Kind == projection.List && holdsJSON(*t.Elem)
}

// full is the table's name for SQL.
func (t *table) full() string { return "silver_base." + quote(t.name) }

func (t *table) create() string {
	defs := []string{
		"_key VARCHAR NOT NULL", "_version BIGINT NOT NULL", "_event_id VARCHAR", "_event_time TIMESTAMP", "_deleted BOOLEAN NOT NULL",
	}
	for _, c := range t.cols {
		defs = append(defs, quote(c.Name)+" "+sqlType(c.Type))
	}
	if len(t.exact) > 0 {
		defs = append(defs, "_exact BLOB")
	}
	return "CREATE TABLE " + t.full() + " (" + strings.Join(defs, ", ") + ")"
}

// createView is what a rebuild replaces to swap generations in one step.
func (t *table) createView() string {
	names := []string{"_key"}
	for _, c := range t.cols {
		names = append(names, quote(c.Name))
	}
	names = append(names, "_version", "_event_time")
	return "CREATE OR REPLACE VIEW silver." + quote(t.entity) + " AS SELECT " + strings.Join(names, ", ") + " FROM " + t.full() + " WHERE NOT _deleted"
}

// mergeStatement stores rows where they are new or of a greater version.
//
// Promise 4: a state that was stored already, or overtaken, changes nothing.
func (t *table) mergeStatement() string {
	var names, values, sets []string
	for _, n := range t.names {
		names, values = append(names, quote(n)), append(values, "s."+quote(n))
		if n != "_key" {
			sets = append(sets, quote(n)+" = s."+quote(n))
		}
	}
	return "MERGE INTO " + t.full() + " AS t USING stage AS s ON t._key = s._key WHEN MATCHED AND s._version > t._version THEN UPDATE SET " +
		strings.Join(sets, ", ") + " WHEN NOT MATCHED THEN INSERT (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// clearStatement deletes what is to be replaced: rows of the same version or a lesser one, and all but the newest of a key that is there more than once.
func (t *table) clearStatement() string {
	return "DELETE FROM " + t.full() + ` WHERE rowid IN (SELECT r FROM (
		SELECT t.rowid AS r, t._version AS have, s._version AS want, row_number() OVER (PARTITION BY t._key ORDER BY t._version DESC, t.rowid) AS nth
		FROM ` + t.full() + ` AS t JOIN stage AS s ON t._key = s._key) WHERE nth > 1 OR have <= want)`
}

// fillStatement stores the rows whose keys are not there.
func (t *table) fillStatement() string {
	var names []string
	for _, n := range t.names {
		names = append(names, quote(n))
	}
	list := strings.Join(names, ", ")
	return "INSERT INTO " + t.full() + " (" + list + ") SELECT " + list + " FROM stage AS s WHERE NOT EXISTS (SELECT 1 FROM " + t.full() + " AS t WHERE t._key = s._key)"
}

// readStatement reads states. JSON columns come from _exact.
func (t *table) readStatement(where string) string {
	names := append([]string{}, headNames...)
	for _, c := range t.cols {
		if !holdsJSON(c.Type) {
			names = append(names, quote(c.Name))
		}
	}
	if len(t.exact) > 0 {
		names = append(names, "_exact")
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM " + t.full() + " WHERE " + where
}

// sqlType is how DuckDB keeps a column.
func sqlType(t projection.Type) string {
	switch t.Kind {
	case projection.Bool:
		return "BOOLEAN"
	case projection.Int:
		return "BIGINT"
	case projection.Float:
		return "DOUBLE"
	case projection.Text:
		return "VARCHAR"
	case projection.Bytes:
		return "BLOB"
	case projection.Date:
		return "DATE"
	case projection.Timestamp:
		return "TIMESTAMP"
	case projection.Duration:
		return "INTERVAL"
	case projection.Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	case projection.List:
		return sqlType(*t.Elem) + "[]"
	}
	return "JSON"
}

// appendType is how a column's values are handed to DuckDB: as it keeps them, JSON as text.
func appendType(t projection.Type) (duckdb.TypeInfo, error) {
	switch t.Kind {
	case projection.Bool:
		return duckdb.NewTypeInfo(duckdb.TYPE_BOOLEAN)
	case projection.Int:
		return duckdb.NewTypeInfo(duckdb.TYPE_BIGINT)
	case projection.Float:
		return duckdb.NewTypeInfo(duckdb.TYPE_DOUBLE)
	case projection.Text, projection.JSON:
		return duckdb.NewTypeInfo(duckdb.TYPE_VARCHAR)
	case projection.Bytes:
		return duckdb.NewTypeInfo(duckdb.TYPE_BLOB)
	case projection.Date:
		return duckdb.NewTypeInfo(duckdb.TYPE_DATE)
	case projection.Timestamp:
		return duckdb.NewTypeInfo(duckdb.TYPE_TIMESTAMP)
	case projection.Duration:
		return duckdb.NewTypeInfo(duckdb.TYPE_INTERVAL)
	case projection.Decimal:
		return duckdb.NewDecimalInfo(uint8(t.Precision), uint8(t.Scale))
	case projection.List:
		elem, err := appendType(*t.Elem)
		if err != nil {
			return nil, err
		}
		return duckdb.NewListInfo(elem)
	}
	return nil, fmt.Errorf("kind %s has no SQL type", t.Kind)
}
