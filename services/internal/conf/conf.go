// Package conf loads YAML configuration into one struct a component: strictly, with ${VAR} from the environment, and with
// errors that name file, line and key.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize bounds a configuration file, in bytes.
const maxSize = 1 << 20

// File is a loaded configuration file; it can say where a key stands.
type File struct {
	// Path is the path the file was loaded from.
	Path string
	root *ast.File
	// secrets are what ${file:PATH} put into values, and ${VAR} where VAR is named like a secret.
	secrets []string
}

// Load reads the file at path into dst, a pointer to a struct with yaml tags. Unknown and doubled keys are errors.
// ${VAR} and ${VAR:-default} in values are replaced from the environment; a variable that is not set and has no default is an
// error, and $${ is a literal ${. ${file:PATH} is replaced by what a file holds, without the newline at its end: the way to give a
// secret that is mounted as a file. PATH is relative to the folder of the configuration; no error shows what such a file holds,
// nor what a variable does whose name says that it is a secret (PASSWORD, TOKEN). Durations also take days and weeks (7d, 2w) and "forever", which is Forever.
// Every error is an *Error.
func Load(path string, dst any) (*File, error) {
	raw, err := read(path)
	if err != nil {
		return nil, &Error{File: path, Msg: err.Error(), Err: err}
	}
	return Parse(path, raw, os.LookupEnv, dst)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return nil, pe.Err
		}
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(raw) > maxSize {
		err = fmt.Errorf("larger than %d bytes", maxSize)
	}
	return raw, err
}

// Parse is Load on bytes already read and with its own look-up of variables. The name is what errors call the file.
func Parse(name string, raw []byte, lookup func(string) (string, bool), dst any) (*File, error) {
	root, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	f := &File{Path: name, root: root}
	if len(root.Docs) > 1 {
		return nil, &Error{File: name, Msg: "more than one YAML document"}
	}
	if len(root.Docs) == 0 || root.Docs[0].Body == nil {
		return f, nil
	}
	body := root.Docs[0].Body
	values := &expander{file: name, lookup: lookup}
	if err := values.expand(body); err != nil {
		return nil, err
	}
	f.secrets = values.secrets
	dec := yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict(), yaml.CustomUnmarshaler(unmarshalDuration), yaml.CustomUnmarshaler(unmarshalSize))
	if err := dec.DecodeFromNode(body, dst); err != nil {
		return nil, f.without(decodeError(name, body, dst, err))
	}
	return f, nil
}

func unmarshalDuration(d *time.Duration, b []byte) error {
	v, err := ParseDuration(string(bytes.Trim(bytes.TrimSpace(b), `"'`)))
	*d = v
	return err
}
