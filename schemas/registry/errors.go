package registry

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound says that the registry has no such id, subject or version. Only a registry's own answer counts: an HTTP
// 404 from something else in its place is ErrUnavailable.
var ErrNotFound = errors.New("not in the schema registry")

// ErrUnauthorized says that the registry refused the credentials, or what they may do. It does not pass by itself.
var ErrUnauthorized = errors.New("the schema registry refused the credentials")

// ErrUnavailable says that the registry could not be asked: it is away, overloaded or answers nonsense. Trying again
// later can help.
var ErrUnavailable = errors.New("the schema registry is not available")

// ErrInvalid says that the registry refused a schema as no schema, or holds one that Millrace cannot use: not Avro, too
// large, or with references that do not resolve.
var ErrInvalid = errors.New("not a schema that can be used")

// ErrIncompatible says that the registry refused a schema because it breaks the compatibility rule of its subject.
type ErrIncompatible struct {
	// Subject is the subject it was to be registered under.
	Subject string
	// Reasons are the registry's own words; at least one.
	Reasons []string
}

// Error names the subject and the registry's reasons.
func (e *ErrIncompatible) Error() string {
	return fmt.Sprintf("subject %s: incompatible schema: %s", e.Subject, strings.Join(e.Reasons, "; "))
}

// IsTransient says whether trying again later, with nothing changed, can help.
func IsTransient(err error) bool { return errors.Is(err, ErrUnavailable) }
