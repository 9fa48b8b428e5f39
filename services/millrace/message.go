package main

import (
	"slices"
	"strings"
	"unicode"
)

// oneLine is an error's text in one line, for a log, a table or a terminal. What several attempts have in common is said once.
func oneLine(err error) string {
	var parts []string
	for _, line := range strings.Split(err.Error(), "\n") {
		if line = clean(strings.TrimSpace(line)); line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "; "), ":; ", ": ")
}

// clean shows a dot for every character that could move the cursor, change colours or hide text: what is shown may come from
// anybody.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			return '·'
		}
		return r
	}, s)
}

// answerError is what a running sink answers when it does not do what it was asked. It may take several lines, with a mark below
// the place in a statement that is wrong.
type answerError struct{ message string }

func (e *answerError) Error() string { return e.message }

// text is the message with its lines kept.
func (e *answerError) text() string {
	lines := strings.Split(strings.TrimRight(e.message, "\n "), "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Join(lines, "\n")
}
