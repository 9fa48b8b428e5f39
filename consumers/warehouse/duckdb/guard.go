//go:build cgo

package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers/warehouse"
)

// maxSQLBytes is the length of the longest statement, in bytes.
const maxSQLBytes = 64 << 10

// maxNodes bounds a parsed statement, in nodes of its tree.
const maxNodes = 100_000

// tableFunctions are the table functions a query may use: those that compute, and those that describe the warehouse. The others
// read files, change settings or write.
var tableFunctions = []string{
	"unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree", "histogram", "histogram_values", "summary",
	"duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_keywords", "duckdb_schemas", "duckdb_tables", "duckdb_types",
	"duckdb_views", "pragma_table_info", "pragma_show", "show_tables", "show_tables_expanded", "pg_timezone_names",
}

// refusedFunctions are scalar functions that do something.
var refusedFunctions = []string{"write_log", "sleep_ms", "setseed", "nextval", "currval", "current_setting", "getenv"}

// guard lets a statement through if it only reads the warehouse. It looks at DuckDB's own parse of it; nothing is bound or run. What
// it may have overlooked meets a read-only transaction and a database without access to files.
func guard(ctx context.Context, conn *duckdb.Conn, sql string) error {
	if len(sql) > maxSQLBytes {
		return fmt.Errorf("%w: the statement is longer than %d KiB", warehouse.ErrInvalid, maxSQLBytes>>10)
	}
	if strings.ContainsRune(sql, 0) {
		return fmt.Errorf("%w: the statement holds a null character", warehouse.ErrInvalid)
	}
	tree, err := text(ctx, conn, `SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)::VARCHAR`, sql)
	if err != nil {
		return err
	}
	var parsed struct {
		Error      bool              `json:"error"`
		Type       string            `json:"error_type"`
		Message    string            `json:"error_message"`
		Statements []json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal([]byte(tree), &parsed); err != nil {
		return fmt.Errorf("%w: it cannot be parsed", warehouse.ErrInvalid)
	}
	switch {
	case parsed.Error && parsed.Type == "not implemented": // "only SELECT statements can be serialized"
		return warehouse.ErrRefused
	case parsed.Error:
		return fmt.Errorf("%w: %s", warehouse.ErrInvalid, parsed.Message)
	case len(parsed.Statements) == 0:
		return fmt.Errorf("%w: there is no statement", warehouse.ErrInvalid)
	case len(parsed.Statements) > 1:
		return fmt.Errorf("%w: one statement at a time", warehouse.ErrRefused)
	}
	var root any
	if err := json.Unmarshal(parsed.Statements[0], &root); err != nil {
		return fmt.Errorf("%w: it cannot be parsed", warehouse.ErrInvalid)
	}
	g := &guardian{left: maxNodes}
	return g.visit(root)
}

// guardian walks a parsed statement.
type guardian struct{ left int }

func (g *guardian) visit(node any) error {
	if g.left--; g.left < 0 {
		return fmt.Errorf("%w: the statement is too long", warehouse.ErrInvalid)
	}
	switch n := node.(type) {
	case []any:
		for _, e := range n {
			if err := g.visit(e); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := g.judge(n); err != nil {
			return err
		}
		for _, e := range n {
			if err := g.visit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge refuses functions by name and what can only be a file.
func (g *guardian) judge(n map[string]any) error {
	if f, ok := n["function"].(map[string]any); ok && n["type"] == "TABLE_FUNCTION" {
		if name := lower(f["function_name"]); !slices.Contains(tableFunctions, name) {
			return fmt.Errorf("%w: the table function %s is not among those for queries", warehouse.ErrRefused, name)
		}
	}
	if n["class"] == "FUNCTION" && slices.Contains(refusedFunctions, lower(n["function_name"])) {
		return fmt.Errorf("%w: the function %s is not for queries", warehouse.ErrRefused, lower(n["function_name"]))
	}
	if n["type"] == "BASE_TABLE" && strings.ContainsAny(lower(n["table_name"]), "/\\*") {
		return fmt.Errorf("%w: a file is no table", warehouse.ErrRefused)
	}
	return nil
}

func lower(v any) string {
	s, _ := v.(string)
	return strings.ToLower(s)
}

// asked turns what DuckDB reports of a user's statement into an error for the user.
func asked(ctx context.Context, err error) error {
	var derr *duckdb.Error
	switch {
	case err == nil, errors.Is(err, warehouse.ErrBusy), errors.Is(err, ErrClosed):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return warehouse.ErrTimeout
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &derr):
		return err
	}
	switch derr.Type {
	case duckdb.ErrorTypeOutOfMemory:
		return warehouse.ErrTooMuch
	case duckdb.ErrorTypePermission:
		return fmt.Errorf("%w: no files and no extensions", warehouse.ErrRefused)
	case duckdb.ErrorTypeIO, duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal, duckdb.ErrorTypeSerialization:
		return err
	case duckdb.ErrorTypeTransaction:
		if strings.Contains(derr.Msg, "read-only") { // has no type of its own
			return warehouse.ErrRefused
		}
		return err
	}
	return fmt.Errorf("%w: %s", warehouse.ErrInvalid, derr.Msg)
}
