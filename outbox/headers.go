package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The headers with a reserved prefix that writers give.
const (
	// HeaderTenant names the tenant an event belongs to.
	HeaderTenant = "millrace-tenant"
	// HeaderSnapshot marks an event that tells the state of a row rather than a change, and names the backfill that wrote it.
	HeaderSnapshot = "millrace-snapshot"
)

// reservedPrefixes are for the relay, which writes CloudEvents attributes and its own.
var reservedPrefixes = []string{"ce_", "millrace-"}

// headers returns the JSON of an event's own headers and those of the context; empty if there are none.
func (o *Outbox) headers(ambient, own map[string]string) (string, *EventError) {
	all := ambient
	switch {
	case len(ambient) == 0:
		all = own
	case len(own) > 0:
		all = make(map[string]string, len(ambient)+len(own))
		for k, v := range ambient {
			all[k] = v
		}
		for k, v := range own {
			all[k] = v
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	if err := o.checkHeaders(all); err != nil {
		return "", err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(all); err != nil { // strings, checked above
		return "", refuse(ErrMalformed, "headers: %v", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func (o *Outbox) checkHeaders(headers map[string]string) *EventError {
	if len(headers) > o.limits.Headers {
		return refuse(ErrTooLarge, "%d headers, at most %d", len(headers), o.limits.Headers)
	}
	size := 0
	for name, value := range headers {
		size += len(name) + len(value)
		if err := checkHeaderName(name); err != nil {
			return err
		}
		if fault := textFault(value); fault != "" {
			return refuse(ErrMalformed, "header %s: its value holds %s", name, fault)
		}
	}
	if size > o.limits.HeaderBytes {
		return refuse(ErrTooLarge, "headers of %d bytes, at most %d", size, o.limits.HeaderBytes)
	}
	return nil
}

func checkHeaderName(name string) *EventError {
	if !legalHeaderName(name) {
		return refuse(ErrMalformed, `header %s: names are lower case letters, digits, ".", "_" and "-"`, quote(name))
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(name, p) && name != HeaderTenant && name != HeaderSnapshot {
			return refuse(ErrMalformed, "header %s: names that begin with %s are reserved", quote(name), p)
		}
	}
	return nil
}

func legalHeaderName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return name != ""
}

// textFault says why PostgreSQL would not store a text: empty if it would. Asking the server would abort the
// caller's transaction.
func textFault(s string) string {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return "a NUL byte"
	case !utf8.ValidString(s):
		return "invalid UTF-8"
	}
	return ""
}

// ambient asks the hook of WithHeaders.
func (o *Outbox) ambient(ctx context.Context) map[string]string {
	if o.fromContext == nil {
		return nil
	}
	return o.fromContext(ctx)
}

// quote shows a name from outside in a message, cut to a bearable length.
func quote(s string) string {
	const limit = 80
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strconv.Quote(s)
}
