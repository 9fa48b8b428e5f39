package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// maxSecret bounds a file that ${file:PATH} names, in bytes.
const maxSecret = 64 << 10

// hidden is what errors show in the place of a secret.
const hidden = "xxxxx"

// readSecret returns what a file holds, without one newline at its end, which editors and echo put there.
func readSecret(path string) (string, error) {
	raw, err := readRegular(path)
	var pe *os.PathError
	switch {
	case errors.As(err, &pe):
		return "", pe.Err // the rest repeats the path
	case err != nil:
		return "", err
	}
	text, _ := strings.CutSuffix(string(raw), "\n")
	text, _ = strings.CutSuffix(text, "\r")
	switch {
	case text == "":
		return "", errors.New("is empty")
	case strings.ContainsRune(text, 0):
		return "", errors.New("holds a zero byte: it is no text")
	}
	return text, nil
}

// readRegular reads a bounded regular file. A pipe would keep whoever loads the configuration waiting.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("is no regular file"))
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("is larger than %d bytes", maxSecret)
	}
	return raw, err
}

// measure is a number, a word, or both: what somebody may have meant as a duration or a size.
var measure = regexp.MustCompile(`^-?[0-9]*[.,]?[0-9]*\s?[a-zA-Z]{0,9}$`)

// shown is a value as an error shows it. What was hardly meant for where it stands may be a secret that belongs elsewhere.
func shown(s string) string {
	if !measure.MatchString(s) {
		return "this (not shown, for it may be a secret)"
	}
	return strconv.Quote(s)
}

// hide replaces the secrets in a text.
func hide(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, hidden)
	}
	return text
}
