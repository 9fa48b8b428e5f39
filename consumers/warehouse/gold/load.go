package gold

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

const (
	maxFileBytes = 48 << 10 // a warehouse takes statements of up to 64 KiB
	maxModels    = 1000
	maxNesting   = 32 // brackets open at a time in the head
)

// Load reads the models of a folder: each file NAME.sql is one. Other files and folders in it are left alone. Every error is an *Error, which
// names the file and, where it can, the line. What inputs exist is Graph's to see.
func Load(dir string) ([]*Model, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &Error{File: dir, Reason: "read the folder of models: " + err.Error()}
	}
	var out []*Model
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sql" || e.IsDir() {
			continue
		}
		if len(out) == maxModels {
			return nil, &Error{File: dir, Reason: fmt.Sprintf("holds more than %d models", maxModels)}
		}
		path := filepath.Join(dir, e.Name())
		raw, err := readFile(path)
		if err != nil {
			return nil, &Error{File: path, Reason: err.Error()}
		}
		m, err := Parse(path, raw)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, &Error{File: dir, Reason: "holds no model: write one a file, NAME.sql"}
	}
	return out, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(raw) > maxFileBytes {
		err = fmt.Errorf("is larger than %d KiB", maxFileBytes>>10)
	}
	return raw, err
}

// head is the YAML that a file begins with, in a comment.
type head struct {
	About       string           `yaml:"about"`
	Incremental *headIncremental `yaml:"incremental"`
	Tests       []headTest       `yaml:"tests"`
}

type headIncremental struct {
	Key  []string            `yaml:"key"`
	From map[string][]string `yaml:"from"`
}

// Parse reads one model; the file's name gives the model's.
func Parse(path string, raw []byte) (*Model, error) {
	m := &Model{Name: strings.TrimSuffix(filepath.Base(path), ".sql"), File: path}
	sum := sha256.Sum256(raw)
	m.Digest = hex.EncodeToString(sum[:])
	if err := checkName(m.Name); err != nil {
		return nil, m.fail(0, "%v", err)
	}
	if bytes.ContainsRune(raw, 0) {
		return nil, m.fail(0, "holds a null character")
	}
	text, body := split(string(raw))
	m.headLines = strings.Count(string(raw[:len(raw)-len(body)]), "\n")
	var h head
	if err := m.decode(text, &h); err != nil {
		return nil, err
	}
	var err error
	if m.parts, err = scan(body, m.headLines+1); err != nil {
		var le *lineError
		if errors.As(err, &le) {
			return nil, m.fail(le.line, "%s", le.reason)
		}
		return nil, m.fail(0, "%v", err)
	}
	return m, m.take(h)
}

// split parts the head from the SQL. The head is the comment /* … */ that the file begins with, if it does; it comes with the lines before it, so that its lines
// are those of the file.
func split(text string) (head, body string) {
	trimmed := strings.TrimLeft(text, " \t\r\n\ufeff")
	if !strings.HasPrefix(trimmed, "/*") {
		return "", text
	}
	inner, rest, ok := strings.Cut(trimmed[2:], "*/")
	if !ok {
		return "", text // the scan says that the comment has no end
	}
	return strings.Repeat("\n", strings.Count(text[:len(text)-len(trimmed)], "\n")) + "  " + inner, rest
}

func (m *Model) decode(text string, h *head) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	depth := 0
	for i, line := range strings.Split(text, "\n") {
		depth += strings.Count(line, "[") + strings.Count(line, "{")
		if depth > maxNesting || len(line)-len(strings.TrimLeft(line, " -?:")) > 200 {
			return m.fail(i+1, "the head is nested too deeply")
		}
		depth = max(0, depth-strings.Count(line, "]")-strings.Count(line, "}"))
	}
	err := yaml.UnmarshalWithOptions([]byte(text), h, yaml.Strict())
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	var ye yaml.Error
	if errors.As(err, &ye) {
		line := 0
		if t := ye.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
		return m.fail(line, "the head, which is YAML in the first comment: %s", ye.GetMessage())
	}
	return m.fail(0, "the head, which is YAML in the first comment: %v", err)
}

// take puts the head into the model.
func (m *Model) take(h head) error {
	m.About = strings.TrimSpace(h.About)
	read := m.read()
	m.Inputs = read
	for i, t := range h.Tests {
		one, err := t.test()
		if err != nil {
			return m.fail(0, "tests: number %d: %v", i+1, err)
		}
		m.Tests = append(m.Tests, one)
		if one.To != "" {
			m.Inputs = append(m.Inputs, one.To)
		}
	}
	slices.Sort(m.Inputs)
	m.Inputs = slices.Compact(m.Inputs)
	if len(read) == 0 {
		return m.fail(0, "reads no input: name at least one, as {{ silver.ENTITY }}")
	}
	if h.Incremental == nil {
		return nil
	}
	m.Incremental = &Incremental{Key: h.Incremental.Key, From: h.Incremental.From}
	if err := m.Incremental.check(read); err != nil {
		return m.fail(0, "%v", err)
	}
	return nil
}

// Error says what is wrong with a model, and where.
type Error struct {
	// File is the path of the model, or of the folder.
	File string
	// Line is the line in it, from 1; 0 where none is known.
	Line   int
	Reason string
}

// Error returns "file:line: reason".
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
	}
	return e.File + ": " + cmp.Or(e.Reason, "is wrong")
}
