package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxName is the length of the longest identifier, in bytes: Postgres cuts off the rest.
const maxName = 63

// systemColumns cannot be the name of a column, however it is quoted.
var systemColumns = []string{"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}

// identifier is the name in the database of something that is declared by a name: the same, unless Postgres would cut it or has it for
// itself. Then it is the beginning of the name and a hash of the whole.
func identifier(name string) string {
	if len(name) <= maxName && !slices.Contains(systemColumns, name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return cut(name, maxName-9) + "_" + hex.EncodeToString(sum[:4])
}

// cut returns at most n bytes of s, and no part of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// quote writes a name for SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// checkName says what is wrong with a declared name.
func checkName(name string) error {
	if name == "" || !utf8.ValidString(name) || strings.ContainsRune(name, 0) || strings.HasPrefix(name, "_") {
		return fmt.Errorf("%q cannot be a name: want text that does not begin with _", name)
	}
	return nil
}

// space is where a generation of a warehouse lives in its database, as names of schemas.
type space struct {
	generation int
	// millrace, bronzeBase and base hold the generation's own tables.
	millrace, bronzeBase, base string
	// bronze and silver hold the views of readers, root knows which generation they show, and what gold remembers. All generations share them. root is millrace of
	// the first one.
	root, bronze, silver string
}

// spaceOf names the schemas, quoted; prefix is Config.Schema.
func spaceOf(prefix string, generation int) space {
	if prefix != "" {
		prefix += "_"
	}
	suffix := ""
	if generation > 1 {
		suffix = fmt.Sprintf("_g%d", generation)
	}
	return space{
		generation: generation, millrace: quote(prefix + "millrace" + suffix), bronzeBase: quote(prefix + "bronze_base" + suffix), base: quote(prefix + "silver_base" + suffix),
		root: quote(prefix + "millrace"), bronze: quote(prefix + "bronze"), silver: quote(prefix + "silver"),
	}
}

// lockID is the number of an advisory lock of the generation.
func (s space) lockID(what ...any) int64 { return lockOf(s.millrace, what) }

// sharedID is the number of an advisory lock that all generations share.
func (s space) sharedID(what string) int64 { return lockOf(s.root, []any{"all generations", what}) }

func lockOf(schema string, what []any) int64 {
	sum := sha256.Sum256([]byte(fmt.Sprintf("millrace warehouse %s %q", schema, what)))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// barrier is the lock that commits share and DDL has alone.
func (s space) barrier() int64 { return s.lockID("barrier") }

// A btree entry holds no more than a third of a page, and an entity's key may have 8 KiB. So a key of more than longKey bytes stands
// in the column _key as its beginning and a hash, which together are longer than any key that stands there as it is.
const longKey = 2000

// storedKey is what the column _key holds of a key.
func storedKey(key string) string {
	if len(key) <= longKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return cut(key, longKey) + "#" + hex.EncodeToString(sum[:])
}
