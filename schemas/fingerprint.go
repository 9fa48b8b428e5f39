package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Fingerprint identifies a schema by all of its meaning: it is the first 16 bytes of SHA-256 over the normalised
// schema without its documentation. Logical types, defaults, aliases and every custom property count; whitespace, the
// order of keys, the spelling of namespaces and the layout of files do not. The zero value is no schema's fingerprint.
type Fingerprint [16]byte

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint takes the 16 raw bytes of a fingerprint, as the column outbox.event.schema_fp holds them.
func ParseFingerprint(b []byte) (Fingerprint, error) {
	var f Fingerprint
	if len(b) != len(f) {
		return f, fmt.Errorf("schema fingerprint of %d bytes, want %d", len(b), len(f))
	}
	copy(f[:], b)
	return f, nil
}

func fingerprintOf(text []byte) Fingerprint {
	sum := sha256.Sum256(text)
	return Fingerprint(sum[:16])
}
