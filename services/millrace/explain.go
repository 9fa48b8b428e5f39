package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/registry"
)

// explained is an error about a connection with what to do about it.
type explained struct {
	error
	remedy string
}

func (e *explained) Error() string { return e.error.Error() + " (" + e.remedy + ")" }
func (e *explained) Unwrap() error { return e.error }

// where is what of the configuration an error is about: the keys under which a Postgres is found.
type where struct{ dsn, password string }

var anOutbox = outboxAt("NAME")

func outboxAt(name string) where {
	return where{"outboxes." + name + ".postgres", "outboxes." + name + ".password"}
}

func sinkAt(name string) where { return where{"sinks." + name + ".url", "sinks." + name + ".password"} }

// explain is where.explain for an error of which nobody knows where it is from.
func explain(err error) error { return anOutbox.explain(err) }

// explain says under which keys of the configuration to look when a server refused the connection for who we are or how we speak.
// Every other error it returns as it is.
func (at where) explain(err error) error {
	var done *explained
	if err == nil || errors.As(err, &done) {
		return err
	}
	var elsewhere posted
	if errors.As(err, &elsewhere) {
		return err // somebody else's server: no key of ours for Kafka or Postgres is at fault
	}
	remedy := ""
	var pg *pgconn.ConnectError
	switch {
	case errors.As(err, &pg):
		remedy = at.postgresRemedy(err)
	case errors.Is(err, registry.ErrUnavailable), errors.Is(err, registry.ErrUnauthorized):
		remedy = registryRemedy(err)
	default:
		remedy = kafkaRemedy(err)
	}
	if remedy == "" {
		return err
	}
	return &explained{err, remedy}
}

// posted is an error of a request to a server that is not one of ours: a webhook's, or a CDN's.
type posted interface {
	error
	PostedTo() string
}

func kafkaRemedy(err error) string {
	var eof *kgo.ErrFirstReadEOF
	switch text := err.Error(); {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "look at kafka.sasl: username, password, and whether the broker knows this user by this mechanism"
	case errors.Is(err, kerr.UnsupportedSaslMechanism), strings.Contains(text, "only supported SASL mechanisms"):
		return "look at kafka.sasl.mechanism: the broker does not offer it here"
	case errors.Is(err, kerr.IllegalSaslState):
		return "look at kafka.sasl: this listener takes no credentials"
	case errors.As(err, &eof), strings.Contains(text, "tls alert") || strings.Contains(text, "invalid large response size"):
		return "is this the right listener? look at kafka.tls, which makes the client speak TLS, and at kafka.sasl"
	}
	if silent(err) || errors.Is(err, errUnheard) {
		return "nothing comes back from there: is it a broker's port, and can it be reached from here? look at kafka.brokers"
	}
	if remedy := tlsRemedy(err, "kafka.tls"); remedy != "" || !strings.Contains(err.Error(), "unable to dial: ") {
		return remedy
	}
	return "is a broker up there, and can it be reached from here? look at kafka.brokers"
}

// silent says that a connection was made, and that nothing came over it.
func silent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "read" && op.Timeout()
}

func registryRemedy(err error) string {
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return "look at registry.username and registry.password"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the registry does not speak TLS at this port: write http:// in registry.url, or name the other port"
	}
	return tlsRemedy(err, "registry.tls")
}

// What Postgres says of a connection that it refuses.
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
)

func (at where) postgresRemedy(err error) string {
	var said *pgconn.PgError
	switch text := err.Error(); {
	case errors.As(err, &said) && said.Code == invalidPassword:
		return "look at the user in " + at.dsn + " and at " + at.password
	case errors.As(err, &said) && said.Code == invalidAuthorization && strings.Contains(said.Message, "no encryption"):
		return "the server takes this user with TLS only: put sslmode=verify-full and sslrootcert=FILE into " + at.dsn
	case errors.As(err, &said) && said.Code == invalidAuthorization:
		return "the server's pg_hba.conf does not let this user in from here"
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing comes back from there: is it the server's port, and can it be reached from here? look at " + at.dsn
	case strings.Contains(text, "server refused TLS"):
		return "the server does not speak TLS: set ssl=on there, or sslmode in " + at.dsn
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "put sslrootcert=FILE into " + at.dsn + ", a PEM file with the authority that signed the server's certificate"
	case errors.As(err, &name):
		return "connect under a name that is in the server's certificate"
	}
	return ""
}

// tlsRemedy is for what Go's TLS says; key is where it is configured.
func tlsRemedy(err error, key string) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "name the authority that signed the server's certificate in " + key + ".ca, a PEM file"
	case errors.As(err, &name):
		return "connect under a name that is in the server's certificate, or say in " + key + ".server_name which to expect"
	case errors.As(err, &invalid):
		return "the server's certificate cannot be used: renew it"
	case errors.As(err, &header):
		return "the server does not speak TLS at this port: name the other port, or take " + key + " away"
	case strings.Contains(err.Error(), "remote error: tls: "):
		return "the server refused the handshake: does it want a client certificate (" + key + ".cert and .key)?"
	}
	return ""
}

// explainAttr makes errors in log lines say what to do.
func explainAttr(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		if with := explain(err); with != err {
			a.Value = slog.StringValue(oneLine(with))
		}
	}
	return a
}

// explainedRunner is a role whose readiness says what to do.
type explainedRunner struct {
	runner
	at where
}

func (r explainedRunner) Ready() error { return r.at.explain(r.runner.Ready()) }

func (r explainedRunner) Run(ctx context.Context) error { return r.at.explain(r.runner.Run(ctx)) }

// logger returns a logger whose errors say what to do there.
func (at where) logger(l *slog.Logger) *slog.Logger {
	return slog.New(explainedHandler{l.Handler(), at})
}

// explainedHandler explains errors before explainAttr, which does not know where they are from.
type explainedHandler struct {
	slog.Handler
	at where
}

func (h explainedHandler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			if with := h.at.explain(err); with != err {
				a.Value = slog.StringValue(oneLine(with))
			}
		}
		out.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, out)
}

func (h explainedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return explainedHandler{h.Handler.WithAttrs(attrs), h.at}
}

func (h explainedHandler) WithGroup(name string) slog.Handler {
	return explainedHandler{h.Handler.WithGroup(name), h.at}
}
