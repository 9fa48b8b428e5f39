// Package call posts to somebody else's server and says in our words what the answer means.
//
//	2xx                      nil
//	401, 403                 systemic: the credentials are wrong
//	3xx                      systemic: the address is wrong. Nothing is followed, for what is posted is for the host that was named
//	408, 425, 429, 5xx       transient, and not before Retry-After
//	no answer                transient
//	any other                poison
//
// Errors name the host and never the rest of the address, for paths hold tokens; nor what was sent.
package call

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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
		case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameRunes, unicode.ToLower(r)) }):
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

const nameRunes = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

// New makes a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if err := CheckHeaders(cfg.Headers); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	u, _ := url.Parse(cfg.URL)
	c := &Client{url: cfg.URL, host: u.Host, headers: http.Header{"User-Agent": {"millrace"}}, now: time.Now}
	for name, value := range cfg.Headers {
		c.headers.Set(name, value)
		if value != "" {
			c.hidden = append(c.hidden, value)
			if _, token, ok := strings.Cut(value, " "); ok && token != "" { // of "Bearer token"
				c.hidden = append(c.hidden, token)
			}
		}
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

// Close lets go of the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Post sends a body and returns what the answer means.
func (c *Client) Post(ctx context.Context, headers http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return consumers.AsSystemic(fmt.Errorf("post to %s: %w", c.host, bare(err)))
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
		return fmt.Errorf("post to %s: %w", c.host, bare(err))
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
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
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

// excerpt is the beginning of an answer, for people. A server that repeats what it was sent is not to bring a secret into a log.
func (c *Client) excerpt(text []byte) string {
	s := strings.ToValidUTF8(string(text), "")
	for _, h := range c.hidden {
		s = strings.ReplaceAll(s, h, "xxxxx")
	}
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if s == "" {
		return ""
	}
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return ": " + s
}
