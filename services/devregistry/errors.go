package devregistry

import (
	"fmt"
	"net/http"
)

// apiError is an error as clients of the interface know it: an HTTP status, a code that says more, and a message.
type apiError struct {
	status  int
	Code    int    `json:"error_code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Message }

func fail(status, code int, format string, args ...any) *apiError {
	return &apiError{status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func noSubject(subject string) error {
	return fail(http.StatusNotFound, 40401, "Subject '%s' not found.", subject)
}

func noVersion(version string) error {
	return fail(http.StatusNotFound, 40402, "Version %s not found.", version)
}

func noSchema() error { return fail(http.StatusNotFound, 40403, "Schema not found") }

func softDeleted(subject string) error {
	return fail(http.StatusNotFound, 40404, "Subject '%s' was soft deleted. Set permanent=true to delete permanently", subject)
}

func notSoftDeleted(subject string) error {
	return fail(http.StatusNotFound, 40405, "Subject '%s' was not deleted first before being permanently deleted", subject)
}

func noSubjectConfig(subject string) error {
	return fail(http.StatusNotFound, 40408, "Subject '%s' does not have subject-level compatibility configured", subject)
}

func invalidSchema(reason string) error {
	return fail(http.StatusUnprocessableEntity, 42201, "Invalid schema: %s", reason)
}

func invalidVersion(version string) error {
	return fail(http.StatusUnprocessableEntity, 42202, "The specified version '%s' is not a valid version id", version)
}

func invalidLevel(level string) error {
	return fail(http.StatusUnprocessableEntity, 42203, "Invalid compatibility level '%s'", level)
}

func noModeChange() error {
	return fail(http.StatusUnprocessableEntity, 42205, "the mode of this registry cannot be changed")
}

func badRequest(reason string) error { return fail(http.StatusBadRequest, 400, "%s", reason) }
