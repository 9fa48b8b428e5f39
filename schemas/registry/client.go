package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/riferrei/srclient"
)

// DefaultTimeout bounds a call unless Config says otherwise.
const DefaultTimeout = 5 * time.Second

// Config says which registry to talk to.
type Config struct {
	// URL is the registry's base URL, such as "http://localhost:8081"; a path is kept. Credentials in it are taken out
	// and used unless Username is set.
	URL string
	// Username and Password are sent as HTTP basic authentication. Default: none.
	Username, Password string
	// Timeout bounds each call, with everything it asks of the registry. Default 5 s.
	Timeout time.Duration
	// Transport carries the requests, for certificates and proxies. Default http.DefaultTransport.
	Transport http.RoundTripper
}

// WithDefaults returns a copy with the defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	return c
}

// Client talks to one registry. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL // without credentials

	texts    flight[int, string]
	register flight[[2]string, int]

	mu sync.RWMutex // guards the following
	// known holds texts by id: what an id stands for never changes.
	known map[int]string
}

// New checks the configuration; it asks the registry nothing.
func New(cfg Config) (*Client, error) {
	cfg = cfg.WithDefaults()
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		// The URL itself may hold a password: it is not repeated.
		return nil, errors.New(`registry url: not a URL such as "http://localhost:8081"`)
	}
	if base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("registry url: must end with the path")
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("registry timeout: must not be negative")
	}
	if base.User != nil && cfg.Username == "" {
		cfg.Username = base.User.Username()
		cfg.Password, _ = base.User.Password()
	}
	base.User = nil
	cfg.URL = base.String()
	return &Client{cfg: cfg, base: base, known: map[int]string{}}, nil
}

// URL is the registry's base URL without credentials.
func (c *Client) URL() string { return c.cfg.URL }

// Registered is a schema as it stands under a subject.
type Registered struct {
	Subject string
	Version int
	ID      int
	// Text is the schema; complete in itself, also where the registry keeps it with references.
	Text string
}

// Register puts a schema under a subject and returns its id. A schema that stands there already keeps its id. Errors:
// *ErrIncompatible, ErrInvalid, ErrUnauthorized, ErrUnavailable.
func (c *Client) Register(ctx context.Context, subject, text string) (int, error) {
	return c.register.do(ctx, [2]string{subject, text}, func() (int, error) {
		id, err := c.create(ctx, subject, text)
		var refused *ErrIncompatible
		if !errors.As(err, &refused) {
			return id, err
		}
		// Who registers at the same time as another - or again, after an answer that was lost - may be told of a conflict, although
		// the schema stands there, or would have been taken a moment later.
		switch there, err := c.Lookup(ctx, subject, text); {
		case err == nil:
			return there.ID, nil
		case IsTransient(err) || ctx.Err() != nil:
			return 0, fmt.Errorf("%v; does it stand there all the same? %w", refused, err)
		}
		return c.create(ctx, subject, text)
	})
}

// create asks the registry once.
func (c *Client) create(ctx context.Context, subject, text string) (id int, err error) {
	err = c.call(ctx, "register under "+subject, subject, func(sr *srclient.SchemaRegistryClient, _ *transport) error {
		s, err := sr.CreateSchema(subject, text, srclient.Avro)
		if err != nil {
			return err
		}
		id = s.ID()
		return positive(id)
	})
	return id, err
}

// Lookup finds a schema under a subject. It registers nothing. Errors: ErrNotFound if it does not stand there,
// ErrInvalid, ErrUnauthorized, ErrUnavailable.
func (c *Client) Lookup(ctx context.Context, subject, text string) (r Registered, err error) {
	err = c.call(ctx, "look up under "+subject, subject, func(sr *srclient.SchemaRegistryClient, _ *transport) error {
		s, err := sr.LookupSchema(subject, text, srclient.Avro)
		if err != nil {
			return err
		}
		r = Registered{Subject: subject, Version: s.Version(), ID: s.ID(), Text: text}
		return positive(r.ID)
	})
	return r, err
}

// Schema returns the text of the schema with an id. Answers are kept for ever, and callers who ask for the same id at
// once share one request. Errors: ErrNotFound, ErrInvalid, ErrUnauthorized, ErrUnavailable.
func (c *Client) Schema(ctx context.Context, id int) (string, error) {
	c.mu.RLock()
	text, ok := c.known[id]
	c.mu.RUnlock()
	if ok {
		return text, nil
	}
	return c.texts.do(ctx, id, func() (text string, err error) {
		err = c.call(ctx, fmt.Sprintf("schema id %d", id), "", func(sr *srclient.SchemaRegistryClient, _ *transport) error {
			s, err := sr.GetSchema(id)
			if err != nil {
				return err
			}
			text, err = complete(sr, s)
			return err
		})
		if err == nil {
			c.mu.Lock()
			c.known[id] = text
			c.mu.Unlock()
		}
		return text, err
	})
}

// Latest returns the newest version under a subject. Errors: ErrNotFound, ErrInvalid, ErrUnauthorized, ErrUnavailable.
func (c *Client) Latest(ctx context.Context, subject string) (r Registered, err error) {
	err = c.call(ctx, "latest version of "+subject, subject, func(sr *srclient.SchemaRegistryClient, _ *transport) error {
		s, err := sr.GetLatestSchema(subject)
		if err != nil {
			return err
		}
		text, err := complete(sr, s)
		r = Registered{Subject: subject, Version: s.Version(), ID: s.ID(), Text: text}
		return err
	})
	return r, err
}

// Compatible asks whether a schema could be registered under a subject by the rule that holds there, and if not, why. A
// subject that does not exist takes any schema. Errors: ErrInvalid, ErrUnauthorized, ErrUnavailable.
func (c *Client) Compatible(ctx context.Context, subject, text string) (ok bool, reasons []string, err error) {
	err = c.call(ctx, "compatibility with "+subject, subject, func(sr *srclient.SchemaRegistryClient, tr *transport) (err error) {
		ok, err = sr.IsSchemaCompatible(subject, text, everyVersion, srclient.Avro)
		if err == nil && !ok {
			reasons, err = tr.reasons()
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return true, nil, nil
	}
	return ok && err == nil, reasons, err
}

// Subjects lists the subjects. Errors: ErrUnauthorized, ErrUnavailable.
func (c *Client) Subjects(ctx context.Context) (subjects []string, err error) {
	err = c.call(ctx, "list subjects", "", func(sr *srclient.SchemaRegistryClient, _ *transport) (err error) {
		subjects, err = sr.GetSubjects()
		return err
	})
	return subjects, err
}

// Ping asks the registry for a sign of life. Errors: ErrUnauthorized, ErrUnavailable.
func (c *Client) Ping(ctx context.Context) error {
	err := c.call(ctx, "ping", "", func(sr *srclient.SchemaRegistryClient, _ *transport) error {
		_, err := sr.GetGlobalCompatibilityLevel()
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// call runs f with a client of its own, whose requests end with ctx or after the timeout: srclient's calls take no
// context, but it sends everything through the transport it is given. what names the call in errors, subject
// is what it is about, if that is one.
func (c *Client) call(ctx context.Context, what, subject string, f func(*srclient.SchemaRegistryClient, *transport) error) error {
	bound, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	tr := &transport{ctx: bound, client: c, subject: subject}
	sr := srclient.NewSchemaRegistryClient(c.cfg.URL, srclient.WithClient(&http.Client{Transport: tr}))
	sr.CachingEnabled(false)
	if err := f(sr, tr); err != nil {
		return fmt.Errorf("schema registry: %s: %w", what, tr.classify(ctx, err))
	}
	return nil
}

func positive(id int) error {
	if id <= 0 {
		return fmt.Errorf("%w: it answered with schema id %d", ErrUnavailable, id)
	}
	return nil
}
