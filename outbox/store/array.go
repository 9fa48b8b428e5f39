package store

import (
	"encoding/hex"
	"time"
)

// array builds the text of a PostgreSQL array. Drivers differ in how they pass Go slices, or do not; a text they all
// pass.
type array struct{ b []byte }

func arrayOf[T any](items []T, add func(*array, *T)) string {
	a := &array{b: make([]byte, 0, 16*len(items)+2)}
	a.b = append(a.b, '{')
	for i := range items {
		if i > 0 {
			a.b = append(a.b, ',')
		}
		add(a, &items[i])
	}
	return string(append(a.b, '}'))
}

func (a *array) text(s string) {
	a.b = append(a.b, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			a.b = append(a.b, '\\')
		}
		a.b = append(a.b, s[i])
	}
	a.b = append(a.b, '"')
}

func (a *array) textOrNull(s string) {
	if s == "" {
		a.b = append(a.b, "NULL"...)
		return
	}
	a.text(s)
}

func (a *array) bytes(p []byte) {
	a.b = append(a.b, `"\\x`...)
	a.b = hex.AppendEncode(a.b, p)
	a.b = append(a.b, '"')
}

func (a *array) time(t time.Time) {
	if t.IsZero() {
		a.b = append(a.b, "NULL"...)
		return
	}
	a.text(t.UTC().Format("2006-01-02 15:04:05.999999-07"))
}

// texts is the array of some strings.
func texts(list []string) string {
	return arrayOf(list, func(a *array, s *string) { a.text(*s) })
}
