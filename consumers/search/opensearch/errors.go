package opensearch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/millrace/millrace/consumers"
)

var (
	// ErrDeclaration is what Open returns, marked systemic, for indices that other declarations built. Documents of two
	// declarations must not mix: a new generation has to be built.
	ErrDeclaration = errors.New("the search indices were built by other declarations: build a new generation with millrace rebuild")
	// ErrLost is what Open and every method return, marked systemic, when an index or its alias is gone, or is another one by the same
	// name: positions and documents no longer belong together.
	ErrLost = errors.New("a search index is gone or was made by somebody else: build a new generation with millrace rebuild")
	// ErrClosed is what every method returns after Close.
	ErrClosed = errors.New("search sink is closed")
)

// errAnswer is an answer that is not what the API promises: a proxy's page, or too long.
var errAnswer = errors.New("the server answers with something else")

// statusError is an answer that says what went wrong.
type statusError struct {
	status int
	kind   string // such as "version_conflict_engine_exception"
	reason string
}

// Error returns "403 security_exception: no permissions for …".
func (e *statusError) Error() string {
	text := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.kind != "" {
		text = fmt.Sprintf("%d %s", e.status, e.kind)
	}
	if e.reason != "" {
		text += ": " + e.reason
	}
	return text
}

// Kinds of errors that we tell apart by more than their status.
const (
	kindNoIndex  = "index_not_found_exception"
	kindExists   = "resource_already_exists_exception"
	kindConflict = "version_conflict_engine_exception"
)

// has says whether err is an answer with this status.
func has(err error, status int) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == status
}

// isKind says whether err is an answer of this kind.
func isKind(err error, kind string) bool {
	var e *statusError
	return errors.As(err, &e) && e.kind == kind
}

// classify tells what no retry mends from what passes: credentials refused and requests not understood stop the sink, and so does an
// index that is gone; a server that is away, overloaded or between two leaders is waited for.
func classify(err error) error {
	var e *statusError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case gone(e.kind, e.reason):
		return consumers.AsSystemic(fmt.Errorf("%w: %w", ErrLost, err))
	case e.status == http.StatusRequestTimeout, e.status == http.StatusConflict, e.status == http.StatusTooManyRequests:
		return err
	case e.status >= 400 && e.status < 500:
		return consumers.AsSystemic(err)
	}
	return err
}

// gone says whether an error means that an index, or the alias that we write through, is not there.
func gone(kind, reason string) bool {
	return kind == kindNoIndex || strings.Contains(reason, "[require_alias]")
}

// maxReason bounds what is repeated of a server's explanation, in bytes.
const maxReason = 400

// clean makes a stranger's text fit for a line of a log.
func clean(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}

func systemicf(format string, args ...any) error {
	return consumers.AsSystemic(fmt.Errorf(format, args...))
}
