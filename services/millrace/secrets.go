package main

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/millrace/millrace/services/sink"
)

// hidden is what stands where a secret was.
const hidden = "xxxxx"

// hideSecrets replaces every secret of the configuration.
func (c *Config) hideSecrets() {
	hide(&c.Kafka.SASL.Password)
	hide(&c.Registry.Password)
	c.Registry.URL = hideURL(c.Registry.URL)
	c.Tracing.OTLP = hideURL(c.Tracing.OTLP)
	for _, o := range c.Outboxes {
		o.Postgres = hideURL(o.Postgres)
		hide(&o.Password)
	}
	for _, s := range c.Sinks {
		s.URL = hideURL(s.URL)
		if s.Role() == sink.Webhook {
			s.URL = hidePath(s.URL)
		}
		hide(&s.Password)
		hide(&s.Secret)
		hideValues(s.Headers)
		s.Purge.URL = hidePath(hideURL(s.Purge.URL))
		hideValues(s.Purge.Headers)
	}
}

// withPassword puts a password into a connection string, as its last word. It works on the text, as hideURL does: not every string
// that Postgres takes (several hosts) is a URL to others.
func withPassword(dsn, password string) string {
	switch {
	case password == "" || dsn == "":
		return dsn
	case urlScheme.MatchString(dsn):
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		// Postgres reads a plus as a plus.
		return dsn + sep + "password=" + strings.ReplaceAll(url.QueryEscape(password), "+", "%20")
	}
	return dsn + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
}

// hidePath hides what comes behind the host of a URL: the paths of other people's servers are often all that keeps strangers out.
func hidePath(s string) string {
	scheme := urlScheme.FindString(s)
	rest := s[len(scheme):]
	i := strings.IndexAny(rest, "/?#")
	if i < 0 || i == len(rest)-1 {
		return s
	}
	return scheme + rest[:i] + "/" + hidden
}

func hideValues(m map[string]string) {
	for k := range m {
		m[k] = hidden
	}
}

func hide(s *string) {
	if *s != "" {
		*s = hidden
	}
}

var (
	urlScheme = regexp.MustCompile(`^\s*[a-zA-Z][a-zA-Z0-9+.-]*://`)
	// keyword finds the secrets of a keyword=value connection string: quoted, or with its blanks escaped. A quote that is not
	// closed hides the rest.
	keyword = regexp.MustCompile(`(?is)(\w*(?:pass|pwd|secret|token)\w*)\s*=\s*(?:'(?:[^'\\]|\\.)*(?:'|\\?$)|(?:\\.|[^\s\\])*\\?)`)
	// secretName is a parameter of a URL that is not shown.
	secretName = regexp.MustCompile(`(?i)pass|pwd|secret|token|api.?key`)
)

// hideURL hides the password of a URL, in its user information or as a parameter, or that of a keyword=value connection string.
// It works on the text: a password that should have been escaped and was not makes the parts of a URL fall elsewhere, and must be
// hidden all the same. Where it is not clear, more is hidden than need be.
func hideURL(s string) string {
	scheme := urlScheme.FindString(s)
	if scheme == "" {
		return keyword.ReplaceAllString(s, "$1="+hidden)
	}
	rest := s[len(scheme):]
	user := ""
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		user, rest = rest[:i+1], rest[i+1:]
		if name, _, ok := strings.Cut(user, ":"); ok {
			user = name + ":" + hidden + "@"
		}
	}
	place, query, ok := strings.Cut(rest, "?")
	if ok {
		place += "?" + hideParameters(query)
	}
	return scheme + user + place
}

// shown is how an error shows what should be a connection string, or was to be one: without its secrets. What does not begin as a URL of
// Postgres is not shown at all: it may be a password that was put into the wrong place.
func shown(s string) string {
	if !postgresURL.MatchString(s) {
		return "this (not shown, for it may hold a password)"
	}
	return strconv.Quote(hideURL(s))
}

var postgresURL = regexp.MustCompile(`(?i)^\s*postgres(ql)?://`)

func hideParameters(query string) string {
	params := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	for i, p := range params {
		name, _, ok := strings.Cut(p, "=")
		if !ok {
			continue
		}
		if plain, err := url.QueryUnescape(name); err != nil || secretName.MatchString(plain) {
			params[i] = name + "=" + hidden
		}
	}
	return strings.Join(params, "&")
}
