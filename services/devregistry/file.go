package devregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// open makes a store of what is in the file, and writes each change to it. A file that is not there is an empty one.
func open(name, level string) (*store, error) {
	st := newStore(level)
	if name == "" {
		return st, nil
	}
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("registry file: %w", err)
	default:
		if err := st.restore(text); err != nil {
			return nil, fmt.Errorf("registry file %s: %w", name, err)
		}
	}
	st.save = func(s snapshot) error { return write(name, s) }
	return st, nil
}

func (st *store) restore(text []byte) error {
	var s snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s.Level != "" {
		st.Level = s.Level
	}
	if s.Subjects == nil {
		s.Subjects = map[string]*subject{}
	}
	st.Subjects = s.Subjects
	for name, sub := range s.Subjects {
		if sub == nil {
			return fmt.Errorf("subject %s holds nothing", name)
		}
		for _, v := range sub.Versions {
			if v.ID < 1 || v.ID > len(s.Contents) {
				return fmt.Errorf("subject %s version %d has the unknown schema id %d", name, v.Number, v.ID)
			}
		}
	}
	// References point at versions whose contents may come later in the list only if the file was changed by hand.
	st.Contents = s.Contents
	for i, c := range s.Contents {
		if c == nil || c.ID != i+1 {
			return fmt.Errorf("schema %d is not in its place", i+1)
		}
		compiled, err := st.compile(c.Text, c.References)
		if err != nil {
			return fmt.Errorf("schema id %d: %w", c.ID, err)
		}
		c.identity, c.compiled = compiled.identity, compiled.compiled
		st.byIdentity[c.identity] = c
	}
	return nil
}

// write replaces the file in one step: a crash leaves the old content or the new one.
func write(name string, s snapshot) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
