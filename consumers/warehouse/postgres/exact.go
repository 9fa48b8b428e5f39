package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/consumers/projection"
)

// exactValue is a value that Postgres holds in another form: a text with a null character, whatever is jsonb. The column _exact has
// it as it is.
type exactValue struct {
	column string
	value  any
}

// exactType is how each value is encoded: it carries its own type, so that it can be read after the declaration has changed.
var exactType = []projection.Column{{Name: "_exact", Type: projection.Type{Kind: projection.JSON}}}

// encodeExact writes for each value the length of its column's name, the name, the length of the encoded value, and that.
func encodeExact(values []exactValue) ([]byte, error) {
	var out []byte
	for _, v := range values {
		b, err := projection.EncodeState(exactType, []any{v.value})
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", v.column, err)
		}
		out = append(binary.AppendUvarint(out, uint64(len(v.column))), v.column...)
		out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
	}
	return out, nil
}

// decodeExact reads what encodeExact wrote, by the names of the columns.
func decodeExact(b []byte) (map[string]any, error) {
	out := map[string]any{}
	for len(b) > 0 {
		name, rest, ok := chunk(b)
		if !ok {
			return nil, errValue
		}
		encoded, rest, ok := chunk(rest)
		if !ok {
			return nil, errValue
		}
		values, err := projection.DecodeState(exactType, encoded)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		out[string(name)], b = values[0], rest
	}
	return out, nil
}

// chunk takes a run of bytes with its length in front.
func chunk(b []byte) (run, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	b = b[size:]
	return b[:n], b[n:], true
}
