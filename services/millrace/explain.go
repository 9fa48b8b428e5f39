package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
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

// explain says under which keys of the configuration to look when a server refused the connection for who we are or how we speak.
// Every other error it returns as it is.
func explain(err error) error {
	var done *explained
	if err == nil || errors.As(err, &done) {
		return err
	}
	remedy := ""
	var pg *pgconn.ConnectError
	switch {
	case errors.As(err, &pg):
		remedy = postgresRemedy(err)
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
	return tlsRemedy(err, "kafka.tls")
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

func postgresRemedy(err error) string {
	var said *pgconn.PgError
	switch text := err.Error(); {
	case errors.As(err, &said) && said.Code == invalidPassword:
		return "look at the user in outboxes.NAME.postgres and at outboxes.NAME.password"
	case errors.As(err, &said) && said.Code == invalidAuthorization && strings.Contains(said.Message, "no encryption"):
		return "the server takes this user with TLS only: put sslmode=verify-full and sslrootcert=FILE into outboxes.NAME.postgres"
	case errors.As(err, &said) && said.Code == invalidAuthorization:
		return "the server's pg_hba.conf does not let this user in from here"
	case strings.Contains(text, "server refused TLS"):
		return "the server does not speak TLS: set ssl=on there, or sslmode in outboxes.NAME.postgres"
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "put sslrootcert=FILE into outboxes.NAME.postgres, a PEM file with the authority that signed the server's certificate"
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
type explainedRunner struct{ runner }

func (r explainedRunner) Ready() error { return explain(r.runner.Ready()) }

func (r explainedRunner) Run(ctx context.Context) error { return explain(r.runner.Run(ctx)) }
