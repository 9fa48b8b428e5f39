// Package call posts to somebody else's server and says in our words what the answer means.
//
//	2xx                      nil
//	401, 403, 407            systemic: the credentials are wrong
//	3xx                      systemic: the address is wrong. Nothing is followed, for what is posted is for the host that was named
//	408, 425, 429, 5xx       transient, and not before Retry-After
//	no answer                transient
//	any other                poison
//
// Errors name the host and never the rest of the address, for paths hold tokens; nor headers that were sent, not even where the server repeats them.
package call

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/millrace/millrace/consumers"
)

// Limits of an answer, in bytes: what is read of it so that the connection can be used again, what of it an error repeats, and its headers.
const (
	maxRead    = 64 << 10
	maxShown   = 300
	maxHeaders = 64 << 10
)

// maxWait bounds what an answer's Retry-After can ask for.
const maxWait = 10 * time.Minute

// Config says where to.
type Config struct {
	// URL is http:// or https://. It holds no user and no password: they belong into a header.
	URL string
	// Headers are sent with every request. Their values are hidden in errors.
	Headers map[string]string
	// TLS is for https; nil for the system's authorities. Certificates are verified.
	TLS *tls.Config
	// Timeout bounds a request with its answer.
	Timeout time.Duration
	// Concurrency is the number of requests for which connections are kept.
	Concurrency int
}

// Client posts. It is safe for concurrent use.
type Client struct {
	url     string
	host    string
	headers http.Header
	hidden  []string
	http    *http.Client
	now     func() time.Time
}

// CheckURL returns what is wrong with an address. No part of it is in the message.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Fragment != "":
		return errors.New("the URL is not understood: write https://host/path")
	case u.User != nil:
		return errors.New("the URL holds a user or a password: give them as the header Authorization")
	}
	return nil
}

// CheckHeaders returns what is wrong with headers to send. Values are not in the message.
func CheckHeaders(headers map[string]string) error {
	for name, value := range headers {
		switch {
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }):
			return fmt.Errorf("%q cannot be the name of a header", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return fmt.Errorf("the value of %s holds a control character", name)
		case strings.HasPrefix(strings.ToLower(name), "webhook-"), strings.HasPrefix(strings.ToLower(name), "ce-"),
			strings.EqualFold(name, "Content-Type"), strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Host"):
			return fmt.Errorf("%s is set for every request and cannot be another", name)
		}
	}
	return nil
}

const nameRunes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

// New makes a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if err := CheckHeaders(cfg.Headers); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	u, _ := url.Parse(cfg.URL)
	c := &Client{url: cfg.URL, host: u.Host, headers: http.Header{"User-Agent": {"millrace"}}, hidden: secretsOf(u, cfg.Headers), now: time.Now}
	for name, value := range cfg.Headers {
		c.headers.Set(name, value)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS.Clone()
	transport.MaxIdleConnsPerHost = max(cfg.Concurrency, 1)
	transport.MaxIdleConns = 0
	transport.MaxResponseHeaderBytes = maxHeaders
	c.http = &http.Client{Transport: transport, Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c, nil
}

// Parts of an address, in bytes, from which on they may be secrets: shorter ones stand in every answer.
const (
	minSegment = 8
	minValue   = 4
)

// secretsOf is what no error shows, in every form in which a server may repeat it, the longest first.
func secretsOf(u *url.URL, headers map[string]string) []string {
	var all []string
	add := func(least int, values ...string) {
		for _, v := range values {
			if len(v) >= least {
				all = append(all, v, html.EscapeString(v))
			}
		}
	}
	for _, value := range headers {
		_, token, _ := strings.Cut(value, " ") // of "Bearer token"
		add(1, value, token)
	}
	add(2, u.RequestURI(), u.EscapedPath(), u.Path) // one byte is the slash
	add(1, u.RawQuery)
	add(minSegment, strings.Split(u.EscapedPath(), "/")...)
	add(minSegment, strings.Split(u.Path, "/")...)
	for _, values := range u.Query() {
		add(minValue, values...)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return slices.Compact(all)
}

// Close lets go of the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Post sends a body and returns what the answer means.
func (c *Client) Post(ctx context.Context, headers http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return consumers.AsSystemic(c.failed(err))
	}
	for _, h := range []http.Header{c.headers, headers} {
		for name, values := range h {
			req.Header[name] = values
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			return cause
		}
		return c.failed(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if resp.StatusCode/100 == 2 {
		return nil // whatever becomes of the rest of the answer
	}
	if err != nil {
		text = nil
	}
	return c.meaning(resp, text)
}

// Error is why a request had no answer. It is not about any server of ours: whoever explains errors of connections leaves it as it is.
type Error struct {
	host, text string
	err        error
}

// Error names the host and says why.
func (e *Error) Error() string { return "post to " + e.host + ": " + e.text }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.err }

// PostedTo returns the host.
func (e *Error) PostedTo() string { return e.host }

func (c *Client) failed(err error) error {
	err = bare(err)
	return &Error{host: c.host, text: c.clean(err.Error()), err: err}
}

// bare is an error without the address.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

func (c *Client) meaning(resp *http.Response, text []byte) error {
	code := resp.StatusCode
	err := fmt.Errorf("%s answers %d%s", c.host, code, c.excerpt(text))
	switch {
	case code/100 == 3:
		return consumers.AsSystemic(fmt.Errorf("%s answers %d: what is posted is not carried on to another address; if it has moved, set the url", c.host, code))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		return consumers.AsSystemic(err)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 5:
		return consumers.RetryAfter(c.wait(resp.Header.Get("Retry-After")), err)
	}
	return consumers.AsPoison(err)
}

// wait reads a Retry-After: seconds or a date.
func (c *Client) wait(after string) time.Duration {
	if after == "" {
		return 0
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(after), 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(maxWait/time.Second))) * time.Second
	}
	at, err := http.ParseTime(after)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(c.now()), 0), maxWait)
}

// excerpt is the beginning of an answer, for people.
func (c *Client) excerpt(text []byte) string {
	s := c.clean(string(text))
	if s == "" {
		return ""
	}
	return ": " + s
}

// clean is the beginning of a text from outside, in one line. A server that repeats what it was sent is not to bring a secret into a log.
func (c *Client) clean(text string) string {
	s := strings.ToValidUTF8(text, "")
	for _, h := range c.hidden {
		s = strings.ReplaceAll(s, h, "xxxxx")
	}
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
