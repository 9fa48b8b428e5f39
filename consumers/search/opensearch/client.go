package opensearch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Limits of answers, in bytes. An answer grows with the question, so the long ones are bounded by what was asked.
const (
	maxAnswer = 16 << 20
	maxError  = 64 << 10
)

// client sends requests to one cluster. It is safe for concurrent use.
type client struct {
	base     string // without a slash at the end
	http     *http.Client
	user     string
	password string
	compress bool
	timeout  time.Duration
}

func newClient(cfg Config) (*client, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	c := &client{user: cfg.Username, password: cfg.Password, compress: cfg.Compress, timeout: cfg.RequestTimeout}
	if c.user == "" && u.User != nil {
		c.user = u.User.Username()
		c.password, _ = u.User.Password()
	}
	c.base = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() + trimSlash(u.EscapedPath())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS.Clone()
	transport.MaxIdleConnsPerHost = cfg.MaxInFlight + cfg.MaxSearches + 16 // the lanes ask for states and positions
	transport.MaxIdleConns = 0
	transport.DisableCompression = true // over a fast network unpacking costs more than it saves
	if cfg.Compress {
		transport.DisableCompression = false
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // nobody else gets to see the password and the documents
	}}
	return c, nil
}

func trimSlash(path string) string {
	for len(path) > 0 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

func (c *client) close() { c.http.CloseIdleConnections() }

// path joins segments, each escaped.
func path(segments ...string) string {
	var b bytes.Buffer
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// call sends v as JSON and decodes the answer into out; either may be nil. An answer that is no success is a *statusError.
func (c *client) call(ctx context.Context, method, path string, v, out any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return err
		}
	}
	raw, err := c.send(ctx, method, path, "application/json", body, maxAnswer, nil)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: %w: %v", method, path, errAnswer, err)
	}
	return nil
}

// send sends a body and returns the answer, appended to into, at most limit bytes of it. Errors carry method and path, which hold no
// secret.
func (c *client) send(ctx context.Context, method, path, contentType string, body []byte, limit int64, into []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("%s %s: %w", method, path, readError(resp))
	}
	raw, err := readAll(resp.Body, limit, into)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return raw, nil
}

func (c *client) request(ctx context.Context, method, path, contentType string, body []byte) (*http.Request, error) {
	compressed := false
	if c.compress && len(body) > 1<<10 {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is one there is
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		body, compressed = b.Bytes(), true
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, errors.New("make a request: the address is not understood")
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if compressed {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	return req, nil
}

// withoutURL takes the address off an error of net/http: it is repeated on every line, and may show how somebody's network is laid out.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// readAll reads to the end, into the room behind into's length.
func readAll(r io.Reader, limit int64, into []byte) ([]byte, error) {
	b := bytes.NewBuffer(into)
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w: more than %d bytes", errAnswer, limit)
	}
	return b.Bytes(), err
}

// cause is what an answer says of an error.
type cause struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// readError makes an error of an answer that is no success.
func readError(resp *http.Response) error {
	e := &statusError{status: resp.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return e // the status is the news
	}
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(raw, &answer) != nil || len(answer.Error) == 0 {
		return e // a proxy's page, or no body
	}
	var c cause
	if json.Unmarshal(answer.Error, &c) == nil {
		e.kind, e.reason = clean(c.Type), clean(c.Reason)
		return e
	}
	var text string
	if json.Unmarshal(answer.Error, &text) == nil {
		e.reason = clean(text)
	}
	return e
}
