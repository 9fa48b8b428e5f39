package main

import (
	"net/url"
	"regexp"
)

// hidden is what stands where a secret was.
const hidden = "xxxxx"

// hideSecrets replaces every secret of the configuration.
func (c *Config) hideSecrets() {
	hide(&c.Kafka.SASL.Password)
	hide(&c.Registry.Password)
	c.Registry.URL = hideURL(c.Registry.URL)
	for _, o := range c.Outboxes {
		o.Postgres = hideURL(o.Postgres)
	}
	for _, s := range c.Sinks {
		s.URL = hideURL(s.URL)
	}
}

func hide(s *string) {
	if *s != "" {
		*s = hidden
	}
}

var (
	keyword  = regexp.MustCompile(`(?i)\b(password|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)`)
	userinfo = regexp.MustCompile(`//[^/@\s]*@`)
)

// hideURL hides the password of a URL, in its user information or as a parameter, or of a keyword=value connection string.
func hideURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		// It may still hold a secret: nothing of the user information is shown.
		s = userinfo.ReplaceAllString(s, "//"+hidden+"@")
		return keyword.ReplaceAllString(s, "$1="+hidden)
	}
	if u.Scheme == "" {
		return keyword.ReplaceAllString(s, "$1="+hidden)
	}
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword(u.User.Username(), hidden)
	}
	q := u.Query()
	for _, name := range []string{"password", "sslpassword"} {
		if q.Has(name) {
			q.Set(name, hidden)
			u.RawQuery = q.Encode()
		}
	}
	return u.String()
}
