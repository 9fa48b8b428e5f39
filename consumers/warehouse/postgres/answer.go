package postgres

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/consumers/warehouse"
)

// form is what the text form of a value is made into.
type form int

const (
	asText form = iota
	asBool
	asNumber
	asTime
	asZonedTime
	asBytes
	asJSON // Postgres writes it as JSON
)

// formsOf says what becomes of the columns of an answer.
func formsOf(ctx context.Context, conn *pgx.Conn, fields []pgconn.FieldDescription) ([]form, error) {
	forms := make([]form, len(fields))
	for i, f := range fields {
		switch f.DataTypeOID {
		case pgtype.BoolOID:
			forms[i] = asBool
		case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
			forms[i] = asNumber
		case pgtype.TimestampOID:
			forms[i] = asTime
		case pgtype.TimestamptzOID:
			forms[i] = asZonedTime
		case pgtype.ByteaOID:
			forms[i] = asBytes
		case pgtype.JSONOID, pgtype.JSONBOID:
			forms[i] = asJSON
		default:
			var structured bool
			err := conn.QueryRow(ctx, "SELECT typtype = 'c' OR typtype = 'p' AND typname = 'record' OR typcategory = 'A' FROM pg_catalog.pg_type WHERE oid = $1", f.DataTypeOID).Scan(&structured)
			if err != nil {
				return nil, err
			}
			if structured {
				forms[i] = asJSON
			}
		}
	}
	return forms, nil
}

// typeNames are the SQL types of the columns, as DuckDB's sink has them: in capitals.
func typeNames(ctx context.Context, conn *pgx.Conn, fields []pgconn.FieldDescription, res *warehouse.Result) error {
	for i, f := range fields {
		var name string
		if err := conn.QueryRow(ctx, "SELECT upper(pg_catalog.format_type($1, $2))", f.DataTypeOID, f.TypeModifier).Scan(&name); err != nil {
			return err
		}
		res.Types[i] = name
	}
	return nil
}

// jsonValue turns a value of an answer into one that JSON holds exactly, and says how large it is.
func jsonValue(f form, v []byte) (any, int) {
	if v == nil {
		return nil, 4
	}
	s := string(v)
	switch f {
	case asBool:
		return s == "t", 5
	case asNumber:
		return number(s), len(s)
	case asTime, asZonedTime:
		return rfc3339(s, f == asZonedTime), 30
	case asBytes:
		raw, err := hex.DecodeString(strings.TrimPrefix(s, `\x`))
		if err != nil {
			return s, len(s)
		}
		s = base64.StdEncoding.EncodeToString(raw)
	case asJSON:
		if json.Valid(v) {
			return json.RawMessage(s), len(s)
		}
	}
	return s, len(s)
}

// number is a number as JSON; what is none has a name.
func number(s string) any {
	switch s {
	case "NaN", "Infinity", "-Infinity":
		return s
	}
	return json.Number(s)
}

// rfc3339 rewrites a timestamp of the form 2006-01-02 15:04:05.999999+00. One that has no such form (infinity, BC) stays.
func rfc3339(s string, zoned bool) string {
	layout := "2006-01-02 15:04:05.999999"
	if zoned {
		layout += "-07"
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return s
	}
	return t.UTC().Format(time.RFC3339Nano)
}
