package gold

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// part is a piece of a model's SQL: text as it is, or the name of an input, which stood in {{ }}.
type part struct {
	text  string
	input string // "silver.order"; "" for text
	line  int    // where it begins, from 1
}

// layers are what can stand before the dot of an input.
var layers = []string{"silver", "gold", "bronze"}

// direct finds a layer's table that is named without {{ }}.
var direct = regexp.MustCompile(`(?i)(?:^|[^\pL\pN_$."])"?(silver|gold|bronze|silver_base|gold_base)"?\s*\.\s*("[^"]*"|[\pL\pN_$]*)`)

// scan takes the SQL of a model apart. line is the line of the file that it begins in. What stands in texts, in quoted names and in
// comments is left alone.
func scan(sql string, line int) ([]part, error) {
	s := &scanner{sql: sql, line: line, partLine: line}
	for s.at < len(s.sql) {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	s.cut(s.at)
	return s.parts, s.err
}

type scanner struct {
	sql            string
	at, from       int // from is where the present piece of text begins
	line, partLine int
	parts          []part
	bare           strings.Builder // the text without strings and comments, for the search for direct names
	err            error
}

var dollar = regexp.MustCompile(`^\$(?:[\pL_][\pL\pN_]*)?\$`)

// step passes over one token.
func (s *scanner) step() error {
	rest := s.sql[s.at:]
	switch {
	case strings.HasPrefix(rest, "--"):
		end := strings.IndexByte(rest, '\n')
		if end < 0 {
			end = len(rest)
		}
		s.skip(end)
	case strings.HasPrefix(rest, "/*"):
		return s.pass("*/", 2, "comment")
	case rest[0] == '\'':
		return s.pass("'", 1, "text")
	case rest[0] == '"':
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return &lineError{s.line, "a quoted name has no end"}
		}
		s.bare.WriteString(strings.ReplaceAll(rest[:end+2], ".", "_")) // a dot within is none between names
		s.skip(end + 2)
	case dollar.MatchString(rest):
		tag := dollar.FindString(rest)
		return s.pass(tag, len(tag), "text")
	case strings.HasPrefix(rest, "{{"):
		return s.reference()
	default:
		s.keep(1)
	}
	return nil
}

// keep passes over n bytes; skip does so, and hides them from the search for direct names.
func (s *scanner) keep(n int) {
	s.bare.WriteString(s.sql[s.at : s.at+n])
	s.skip(n)
}

func (s *scanner) skip(n int) {
	s.line += strings.Count(s.sql[s.at:s.at+n], "\n")
	s.at += n
}

// pass skips what ends in a mark and begins with a mark of so many bytes.
func (s *scanner) pass(mark string, begin int, what string) error {
	end := strings.Index(s.sql[s.at+begin:], mark)
	if end < 0 {
		return &lineError{s.line, "a " + what + " has no end"}
	}
	s.bare.WriteByte(' ')
	s.skip(begin + end + len(mark))
	return nil
}

func (s *scanner) cut(end int) {
	text := s.sql[s.from:end]
	if text == "" {
		return
	}
	if m := direct.FindStringSubmatch(s.bare.String()); m != nil && s.err == nil {
		name := strings.Trim(m[2], `"`)
		s.err = &lineError{s.lineOf(m[0]), fmt.Sprintf("%s.%s is read without being an input: write {{ %s.%s }}, so that the model runs when it moves", m[1], name, strings.TrimSuffix(strings.ToLower(m[1]), "_base"), name)}
	}
	s.bare.Reset()
	s.parts = append(s.parts, part{text: text, line: s.partLine})
}

// lineOf is the line of the first place of the present piece where a text stands.
func (s *scanner) lineOf(found string) int {
	at := strings.Index(s.sql[s.from:], strings.TrimLeft(found, " \t\r\n(,"))
	if at < 0 {
		return s.partLine
	}
	return s.partLine + strings.Count(s.sql[s.from:s.from+at], "\n")
}

// reference reads {{ layer.name }}.
func (s *scanner) reference() error {
	end := strings.Index(s.sql[s.at:], "}}")
	if end < 0 {
		return &lineError{s.line, "{{ has no }}"}
	}
	name := strings.TrimSpace(s.sql[s.at+2 : s.at+end])
	if err := checkInput(name); err != nil {
		return &lineError{s.line, err.Error()}
	}
	s.cut(s.at)
	s.parts = append(s.parts, part{input: name, line: s.line})
	s.skip(end + 2)
	s.from, s.partLine = s.at, s.line
	return nil
}

// checkInput says what is wrong with the name of an input.
func checkInput(name string) error {
	layer, table, ok := strings.Cut(name, ".")
	switch {
	case !ok || !slices.Contains(layers, layer) || table == "" || strings.ContainsAny(name, "\n{}\x00"):
		return fmt.Errorf("%.60q names no input: write {{ silver.ENTITY }}, {{ gold.MODEL }} or {{ bronze.events }}", name)
	case layer == "bronze" && table != "events":
		return fmt.Errorf("%.60q does not exist: bronze has one table, {{ bronze.events }}", name)
	}
	return nil
}

// lineError is an error at a line of a file.
type lineError struct {
	line   int
	reason string
}

func (e *lineError) Error() string { return e.reason }
