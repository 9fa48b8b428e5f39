package scaffold

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const uuidType = `{"type": "string", "logicalType": "uuid"}`

// plainTypes are types of PostgreSQL that have one counterpart. Times without a zone stay without one.
var plainTypes = map[string]string{
	"boolean": `"boolean"`, "smallint": `"int"`, "integer": `"int"`, "bigint": `"long"`, "real": `"float"`, "double precision": `"double"`,
	"bytea": `"bytes"`, "uuid": uuidType, "date": `{"type": "int", "logicalType": "date"}`,
	"timestamp with time zone":    `{"type": "long", "logicalType": "timestamp-micros"}`,
	"timestamp without time zone": `{"type": "long", "logicalType": "local-timestamp-micros"}`,
	"time without time zone":      `{"type": "long", "logicalType": "time-micros"}`,
}

var (
	precise   = regexp.MustCompile(`\(\d+\)`) // of timestamp(3) with time zone
	decimal   = regexp.MustCompile(`^numeric\((\d+),(-?\d+)\)$`)
	maxDigits = 38 // of a decimal in the warehouses
)

// avroType is the Avro type of a type of PostgreSQL. What has no counterpart, such as an interval, an enum or a numeric without limits,
// becomes the text that PostgreSQL shows of it.
func avroType(typ string) (avro string, text bool) {
	if elem, ok := strings.CutSuffix(typ, "[]"); ok {
		items, text := avroType(elem)
		if elem == "bytea" || strings.HasSuffix(elem, "[]") {
			items, text = `"string"`, true
		}
		return fmt.Sprintf(`{"type": "array", "items": ["null", %s]}`, items), text
	}
	if m := decimal.FindStringSubmatch(typ); m != nil {
		precision, _ := strconv.Atoi(m[1])
		scale, _ := strconv.Atoi(m[2])
		if precision <= maxDigits && scale >= 0 && scale <= precision {
			return fmt.Sprintf(`{"type": "bytes", "logicalType": "decimal", "precision": %d, "scale": %d}`, precision, scale), false
		}
	}
	if avro, ok := plainTypes[precise.ReplaceAllString(typ, "")]; ok {
		return avro, false
	}
	return `"string"`, true
}
