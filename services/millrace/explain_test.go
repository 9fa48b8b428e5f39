package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// What a registry refuses is told with what to do about it; that it works when nothing is wrong, too. test/e2e shows the same of Kafka
// and Postgres, and the relay on a real registry.
func TestRegistryOverTLSWithAPassword(t *testing.T) {
	authority := harness.NewAuthority(t)
	cert, key := authority.IssueElsewhere(t, "registry.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret :@" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"compatibilityLevel":"BACKWARD"}`)
	})
	plain := httptest.NewServer(answer)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(answer)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	const user = `username: me, password: "s3cret :@"`
	for _, c := range []struct{ name, settings, want string }{
		{"all is well", fmt.Sprintf(`url: %q, %s, tls: {ca: %q, server_name: registry.test}`, secure.URL, user, authority.File), ""},
		{"wrong password", fmt.Sprintf(`url: %q, username: me, password: s3cret-x, tls: {ca: %q, server_name: registry.test}`, secure.URL, authority.File), "registry.password"},
		{"another authority", fmt.Sprintf(`url: %q, %s, tls: {ca: %q, server_name: registry.test}`, secure.URL, user, harness.NewAuthority(t).File), "registry.tls.ca"},
		{"the system's authorities", fmt.Sprintf(`url: %q, %s, tls: {server_name: registry.test}`, secure.URL, user), "registry.tls.ca"},
		{"another name", fmt.Sprintf(`url: %q, %s, tls: {ca: %q}`, secure.URL, user, authority.File), "registry.tls.server_name"},
		{"TLS to a plain port", fmt.Sprintf(`url: %q, %s`, strings.Replace(plain.URL, "http:", "https:", 1), user), "write http:// in registry.url"},
		{"plain text to a TLS port", fmt.Sprintf(`url: %q, %s`, strings.Replace(secure.URL, "https:", "http:", 1), user), "https://"},
	} {
		cfg := config(t, "kafka: {brokers: [a]}\nregistry: {"+c.settings+"}\n")
		registry, err := cfg.registry()
		if err != nil {
			t.Fatal(err)
		}
		err = explain(registry.Ping(t.Context()))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q in it", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: shown: %v", c.name, err)
		}
		t.Log(c.name, err)
	}
}
