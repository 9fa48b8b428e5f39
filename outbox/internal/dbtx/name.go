package dbtx

import (
	"fmt"
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultSchema is the database schema of an outbox unless it is told otherwise.
const DefaultSchema = "outbox"

// maxName is the longest name PostgreSQL keeps, in bytes; it cuts longer ones without an error.
const maxName = 63

// Quote returns the name of a database schema as an SQL identifier. The empty name is DefaultSchema.
func Quote(schema string) (string, error) {
	switch {
	case schema == "":
		schema = DefaultSchema
	case len(schema) > maxName:
		return "", fmt.Errorf("database schema %q: longer than %d bytes", schema[:maxName]+"…", maxName)
	case !utf8.ValidString(schema), strings.ContainsFunc(schema, unicode.IsControl):
		return "", fmt.Errorf("database schema %q: control characters or invalid UTF-8", schema)
	case strings.Contains(schema, "$millrace$"), strings.Contains(schema, "{{"):
		return "", fmt.Errorf(`database schema %q: "$millrace$" and "{{" mean something in the migrations`, schema)
	case strings.HasPrefix(schema, "pg_"):
		return "", fmt.Errorf("database schema %q: names that begin with pg_ belong to PostgreSQL", schema)
	}
	return `"` + strings.ReplaceAll(schema, `"`, `""`) + `"`, nil
}

// LockID maps a purpose and its names to the number of an advisory lock. The zero byte between the parts keeps
// ("a", "bc") apart from ("ab", "c").
func LockID(parts ...string) int64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return int64(h.Sum64())
}
