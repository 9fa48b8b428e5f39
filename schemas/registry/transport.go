package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/riferrei/srclient"
)

const (
	// maxAnswerBytes bounds what is read of one answer.
	maxAnswerBytes = 8 << 20
	// maxReason bounds how much of the registry's words goes into an error, in bytes.
	maxReason = 500
	// everyVersion asks for a check against all versions that the subject's rule names, not only against one.
	everyVersion = ""
)

var errTooLarge = errors.New("the answer is larger than the limit")

// transport carries the requests of one call. It ties them to the call's context, adds the credentials, and remembers
// what srclient does not pass on: the status and the body of the last answer.
type transport struct {
	ctx     context.Context
	client  *Client
	subject string // of the call; empty if it is about none

	status   int
	answer   bytes.Buffer
	tooLarge bool
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.status, t.tooLarge = 0, false
	t.answer.Reset()
	req = req.Clone(t.ctx)
	// After a redirect to another host the credentials stay at home.
	if t.client.cfg.Username != "" && req.URL.Host == t.client.base.Host {
		req.SetBasicAuth(t.client.cfg.Username, t.client.cfg.Password)
	}
	if strings.Contains(req.URL.Path, "/compatibility/") {
		req.URL.Path = strings.TrimSuffix(req.URL.Path, "/")
		req.URL.RawPath = strings.TrimSuffix(req.URL.RawPath, "/")
		req.URL.RawQuery = "verbose=true"
	}
	req.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
	resp, err := t.client.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.status = resp.StatusCode
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxAnswerBytes, t: t}
	return resp, nil
}

// limitedBody ends an answer that is too large with an error, and keeps a copy of what was read.
type limitedBody struct {
	io.ReadCloser
	left int
	t    *transport
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		b.t.tooLarge = true
		return 0, errTooLarge
	}
	b.t.answer.Write(p[:n])
	return n, err
}

// reasons reads why a schema is not compatible from the last answer.
func (t *transport) reasons() ([]string, error) {
	var answer struct {
		Messages []string `json:"messages"`
	}
	if err := json.Unmarshal(t.answer.Bytes(), &answer); err != nil {
		return nil, err
	}
	var reasons []string
	for _, m := range answer.Messages {
		reasons = append(reasons, excerpt(m))
	}
	if len(reasons) == 0 {
		reasons = []string{"the registry gives no reason"}
	}
	return reasons, nil
}

// classify turns what srclient returns into this package's errors. ctx is the caller's.
func (t *transport) classify(ctx context.Context, err error) error {
	for _, known := range []error{ErrInvalid, ErrNotFound, ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if t.tooLarge {
		return fmt.Errorf("%w: %w of %d bytes", ErrInvalid, errTooLarge, maxAnswerBytes)
	}
	if t.status == 0 {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var said srclient.Error
	isRegistry := errors.As(err, &said) && said.Code != 0
	reason := excerpt(said.Message)
	if reason == "" {
		reason = fmt.Sprintf("HTTP status %d", t.status)
	}
	switch {
	case t.status == http.StatusUnauthorized, t.status == http.StatusForbidden:
		return fmt.Errorf("%w: HTTP status %d", ErrUnauthorized, t.status)
	case t.status == http.StatusNotFound && isRegistry && said.Code/100 == 404:
		return fmt.Errorf("%w: %s", ErrNotFound, reason)
	case t.status == http.StatusConflict && isRegistry:
		return &ErrIncompatible{Subject: t.subject, Reasons: []string{reason}}
	case (t.status == http.StatusUnprocessableEntity || t.status == http.StatusBadRequest) && isRegistry:
		return fmt.Errorf("%w: %s", ErrInvalid, reason)
	case t.status/100 == 2:
		return fmt.Errorf("%w: it answered with something else than a registry would: %s", ErrUnavailable, excerpt(err.Error()))
	}
	if t.status == http.StatusBadRequest && t.client.base.Scheme == "http" {
		reason += ": is this the port for https:// URLs?" // how most servers answer plain text there
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, reason)
}

func excerpt(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}
