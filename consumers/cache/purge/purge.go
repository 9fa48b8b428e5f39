// Package purge lets a CDN, or another cache of HTTP answers, forget what was tagged with a cache key: a request names many keys (surrogate keys, cache
// tags). It stands beside the cache in Redis, which keeps the states that cache keys are made of: see Purge of the folder redis.
//
// Two forms are known. Anything that speaks one of them will do, a script of Varnish's as well.
//
//	surrogate-key   POST with a header "Surrogate-Key: a b c" and no body, as Fastly takes it (POST /service/ID/purge, at most 256 keys)
//	json            POST with {"surrogate_keys": ["a", "b"]}, which Fastly takes as well; with Field "tags" as Cloudflare does
//
// A purge is asked for until it is taken: busy or absent servers are transient, everything else stops the sink (the address or the credentials are wrong), so no key is ever
// given up, but one of more than 6 KiB where keys stand in a header: no answer can be tagged with it. A key may be purged more than once, and in any order: forgetting twice is forgetting.
package purge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/internal/call"
)

// Shape is the form of a request.
type Shape string

// The forms of a request.
const (
	SurrogateKey Shape = "surrogate-key"
	JSON         Shape = "json"
)

// Config says how purges are asked for.
type Config struct {
	// URL is the whole address. Required. It is never in logs and errors but for its host.
	URL string
	// Shape is the form of a request. Default surrogate-key.
	Shape Shape
	// Field names the list in a request of the form json. Default "surrogate_keys".
	Field string
	// Headers are sent with every request: credentials, or "Fastly-Soft-Purge: 1".
	Headers map[string]string
	// BatchKeys is the most keys in a request. Default 256; Cloudflare takes 30 in some plans.
	BatchKeys int
	// Timeout bounds a request with its answer. Default 15 s.
	Timeout time.Duration
}

// maxHeader bounds a list of keys in a header, in bytes: many servers take 8 KiB of headers.
const maxHeader = 6 << 10

// MaxBatchKeys is the most that Config.BatchKeys may be.
const MaxBatchKeys = 10_000

// Purger asks for purges.
type Purger struct {
	cfg    Config
	client *call.Client
}

// Check returns what is wrong with a configuration. Neither address nor headers are in the message.
func (c Config) Check() error {
	if err := call.CheckURL(c.URL); err != nil {
		return err
	}
	if err := call.CheckHeaders(c.Headers); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	switch {
	case c.Shape != "" && c.Shape != SurrogateKey && c.Shape != JSON:
		return fmt.Errorf("shape %q is neither surrogate-key nor json", c.Shape)
	case c.Field != "" && c.Shape != JSON:
		return fmt.Errorf("field is for the shape json")
	case c.BatchKeys < 0 || c.BatchKeys > MaxBatchKeys:
		return fmt.Errorf("batch_keys %d is outside 1..%d", c.BatchKeys, MaxBatchKeys)
	case c.Timeout < 0:
		return fmt.Errorf("timeout %s is below 0", c.Timeout)
	}
	return nil
}

// New makes a Purger. It connects to nothing.
func New(cfg Config) (*Purger, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	if cfg.Shape == "" {
		cfg.Shape = SurrogateKey
	}
	if cfg.Field == "" {
		cfg.Field = "surrogate_keys"
	}
	if cfg.BatchKeys == 0 {
		cfg.BatchKeys = 256
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	client, err := call.New(call.Config{URL: cfg.URL, Headers: cfg.Headers, Timeout: cfg.Timeout, Concurrency: 4})
	if err != nil {
		return nil, fmt.Errorf("purge: %w", err)
	}
	return &Purger{cfg: cfg, client: client}, nil
}

// Close lets go of the connections.
func (p *Purger) Close() error { return p.client.Close() }

// Purge asks for the keys, in as many requests as it takes. With an error, done is the number of keys at the beginning that were taken: going on behind
// them is enough.
func (p *Purger) Purge(ctx context.Context, keys []string) (done int, err error) {
	for done < len(keys) {
		n := p.fit(keys[done:])
		if err := p.post(ctx, keys[done:done+n]); err != nil {
			return done, fmt.Errorf("purge %d keys: %w", n, err)
		}
		done += n
	}
	return done, nil
}

// fit is the number of keys that go into the next request.
func (p *Purger) fit(keys []string) int {
	n, size := 0, 0
	for n < len(keys) && n < p.cfg.BatchKeys {
		size += len(keys[n]) + 1
		if p.cfg.Shape == SurrogateKey && n > 0 && size > maxHeader {
			break
		}
		n++
	}
	return n
}

func (p *Purger) post(ctx context.Context, keys []string) error {
	headers, body := http.Header{}, []byte(nil)
	if p.cfg.Shape == JSON {
		headers.Set("Content-Type", "application/json")
		body, _ = json.Marshal(map[string][]string{p.cfg.Field: keys}) // text cannot fail
	} else {
		list := headerList(keys)
		if list == "" || len(list) > maxHeader { // the latter of a single key: see fit
			return nil
		}
		headers.Set("Surrogate-Key", list)
	}
	err := p.client.Post(ctx, headers, body)
	if consumers.Classify(err) == consumers.Poison {
		// No event can be blamed for it, and no key is given up.
		return consumers.AsSystemic(fmt.Errorf("the request is refused: look at url, shape and headers of purge: %w", err))
	}
	return err
}

// headerList is how an answer tagged with these keys has them in its own header: a blank within a key has cut it into two there, too, so both
// are purged.
func headerList(keys []string) string {
	var words []string
	for _, k := range keys {
		words = append(words, strings.FieldsFunc(k, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })...)
	}
	return strings.Join(words, " ")
}
