//go:build cgo

package duckdb

import (
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"
)

// form is how a column of an answer comes out of DuckDB.
type form int

const (
	asDriver form = iota // as a value of the driver
	asText               // as DuckDB writes it
	asJSON               // as JSON
)

func formOf(typ string) form {
	base, _, _ := strings.Cut(typ, "(")
	switch {
	case strings.HasSuffix(typ, "]"), base == "STRUCT", base == "MAP", base == "UNION":
		return asJSON
	}
	switch base { // JSON is text in DuckDB, and comes out as it went in
	case "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
		"FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "BLOB", "DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
		"TIMESTAMP WITH TIME ZONE":
		return asDriver
	}
	return asText
}

// jsonValue turns a value of an answer into one that JSON holds exactly, and says how large it is.
func jsonValue(typ string, v driver.Value) (any, int) {
	if v == nil {
		return nil, 4
	}
	if typ == "JSON" || formOf(typ) == asJSON {
		s, _ := v.(string)
		if json.Valid([]byte(s)) {
			return json.RawMessage(s), len(s)
		}
		return s, len(s) // a NaN within
	}
	switch x := v.(type) {
	case bool:
		return x, 5
	case string:
		return x, len(x)
	case []byte:
		s := base64.StdEncoding.EncodeToString(x)
		return s, len(s)
	case float64:
		return jsonFloat(x, 64), 16
	case float32:
		return jsonFloat(float64(x), 32), 16
	case *big.Int:
		return json.Number(x.String()), 40
	case duckdb.Decimal:
		r := new(big.Rat).SetFrac(x.Value, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(x.Scale)), nil))
		return json.Number(r.FloatString(int(x.Scale))), 40
	case time.Time:
		if typ == "DATE" {
			return x.Format(time.DateOnly), 10
		}
		return x.UTC().Format(time.RFC3339Nano), 30
	}
	return json.Number(fmt.Sprint(v)), 20 // the whole numbers
}

func jsonFloat(x float64, bits int) any {
	switch {
	case math.IsNaN(x):
		return "NaN"
	case math.IsInf(x, 1):
		return "Infinity"
	case math.IsInf(x, -1):
		return "-Infinity"
	}
	return json.Number(strconv.FormatFloat(x, 'g', -1, bits))
}
