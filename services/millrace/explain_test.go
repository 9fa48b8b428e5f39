package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/consumers/cache/purge"
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

// Which Postgres refuses is told by the keys under which it stands: of a sink not those of an outbox, in errors and in log lines.
func TestARefusedPostgresIsNamed(t *testing.T) {
	refused := &pgconn.ConnectError{Config: &pgconn.Config{Host: "db"}}
	reason := fmt.Errorf("open warehouse: %w: %w", refused, &pgconn.PgError{Code: "28P01", Message: "no"})
	var lines strings.Builder
	handler := slog.NewTextHandler(&lines, &slog.HandlerOptions{ReplaceAttr: explainAttr})
	sinkAt("dwh").logger(slog.New(handler)).With("sink", "dwh").WithGroup("g").Warn("in trouble", "err", reason)
	outboxAt("shop").logger(slog.New(handler)).Warn("in trouble", "err", reason)
	slog.New(handler).Warn("in trouble", "err", reason)
	role := explainedRunner{failing{reason}, sinkAt("dwh")}
	for i, c := range []struct{ text, want string }{
		{sinkAt("dwh").explain(reason).Error(), "look at the user in sinks.dwh.url and at sinks.dwh.password"},
		{role.Ready().Error(), "sinks.dwh.url"},
		{explain(sinkAt("dwh").explain(reason)).Error(), "sinks.dwh.url"},
		{outboxAt("shop").explain(reason).Error(), "outboxes.shop.postgres"},
		{strings.Split(lines.String(), "\n")[0], "sinks.dwh.url and at sinks.dwh.password"},
		{strings.Split(lines.String(), "\n")[1], "outboxes.shop.postgres"},
		{strings.Split(lines.String(), "\n")[2], "outboxes.NAME.postgres"},
	} {
		if !strings.Contains(c.text, c.want) || strings.Count(c.text, "look at") != 1 {
			t.Errorf("%d: %s; want %q in it", i, c.text, c.want)
		}
	}
}

// A receiver or a CDN whose certificate nobody vouches for is not told by keys for Kafka, which would mend nothing.
func TestSomebodyElsesServerIsNotExplainedAsKafka(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	p, err := purge.New(purge.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	_, err = p.Purge(t.Context(), []string{"a"})
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Fatalf("%v", err)
	}
	if got := sinkAt("cdn").explain(err).Error(); got != err.Error() {
		t.Error(got)
	}
}

type failing struct{ err error }

func (f failing) Run(context.Context) error { return f.err }
func (f failing) Ready() error              { return f.err }
func (f failing) Status() any               { return nil }

// A port that takes connections and is no broker's.
func TestAPortThatSaysNothing(t *testing.T) {
	conn, err := net.Dial("tcp", harness.SilentPort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if err := explain(fmt.Errorf("ask Kafka: %w", err)); !strings.Contains(err.Error(), "kafka.brokers") {
		t.Error(err)
	}
}
