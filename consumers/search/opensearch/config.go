package opensearch

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers/fold"
)

// Config says where the indices are and what they hold.
type Config struct {
	// URL is the http:// or https:// address of the cluster, or of what balances the load over its nodes. A user and a password in it
	// are used unless Username is set. Required.
	URL string
	// Username and Password are sent with every request (basic authentication).
	Username, Password string
	// TLS is for a URL that begins with https://. Default: the system's authorities.
	TLS *tls.Config
	// Prefix begins the name of every index and alias. Default "millrace".
	Prefix string
	// Generation is the build of the indices, from 1; each has indices and positions of its own. Readers find the one that Serve was called of last, generation 1
	// at first. Default 1.
	Generation int
	// Building has the indices of a generation that is made now neither refreshed nor replicated until Finish, or Serve: nobody reads it, and it is built faster.
	// One that is finished stays so. Default false.
	Building bool
	// ReplicaTimeout is how long Finish waits for the replicas of what was built. Default 5 min.
	ReplicaTimeout time.Duration
	// Projections are the entities to index. Required.
	Projections []fold.Projection
	// RefreshInterval is how long a document that was written may wait until searches find it. Default 1 s; negative: until
	// somebody else refreshes the index.
	RefreshInterval time.Duration
	// MaxInFlight is the number of bulk requests that are under way at once, over all partitions. Default 3.
	MaxInFlight int
	// BulkBytes is the size in bytes above which the documents of a batch go in several requests. A document larger than that goes
	// alone. Default 8 MiB.
	BulkBytes int
	// Compress sends requests compressed: for a network that is slower than the processors are. Default false.
	Compress bool
	// RequestTimeout bounds each request. Default 30 s.
	RequestTimeout time.Duration
	// CommitTimeout bounds a Commit, with the repetition of documents that the cluster had no room for. Default 60 s.
	CommitTimeout time.Duration
	// MaxSearches is the number of searches that run at once; others wait, within their own time. Default 8.
	MaxSearches int
	// Logger receives what an operator should know. Default slog.Default.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with zero values replaced.
func (c Config) WithDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, "millrace")
	c.Generation = cmp.Or(c.Generation, 1)
	c.RefreshInterval = cmp.Or(c.RefreshInterval, time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 3)
	c.BulkBytes = cmp.Or(c.BulkBytes, 8<<20)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 30*time.Second)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, time.Minute)
	c.MaxSearches = cmp.Or(c.MaxSearches, 8)
	c.ReplicaTimeout = cmp.Or(c.ReplicaTimeout, 5*time.Minute)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// prefixes are what names of indices may begin with; the rest of a name is ours.
var prefixes = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,99}$`)

// CheckPrefix returns an error that says what is wrong with a Prefix.
func CheckPrefix(prefix string) error {
	if !prefixes.MatchString(prefix) {
		return fmt.Errorf("%q is not 1 to 100 characters of a-z, 0-9, '.', '_' and '-', the first a letter or digit", prefix)
	}
	return nil
}

// CheckURL returns an error that says what is wrong with a URL; it never shows the URL, which may hold a password.
func CheckURL(s string) error {
	_, err := parseURL(s)
	return err
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the URL is not understood: write https://host:9200")
	}
	return u, nil
}

func (c Config) validate() error {
	if c.URL == "" {
		return errors.New("opensearch: URL is missing")
	}
	if err := CheckURL(c.URL); err != nil {
		return fmt.Errorf("opensearch: URL: %w", err)
	}
	if err := CheckPrefix(c.Prefix); err != nil {
		return fmt.Errorf("opensearch: Prefix: %w", err)
	}
	switch {
	case c.Generation < 1:
		return fmt.Errorf("opensearch: Generation is %d, below 1", c.Generation)
	case len(c.Projections) == 0:
		return errors.New("opensearch: Projections is empty")
	case c.MaxInFlight < 1 || c.BulkBytes < 1 || c.MaxSearches < 1:
		return fmt.Errorf("opensearch: MaxInFlight %d, BulkBytes %d and MaxSearches %d are numbers from 1", c.MaxInFlight, c.BulkBytes, c.MaxSearches)
	case c.RequestTimeout < 0 || c.CommitTimeout < 0 || c.ReplicaTimeout < 0:
		return fmt.Errorf("opensearch: RequestTimeout %v, CommitTimeout %v and ReplicaTimeout %v are not below 0", c.RequestTimeout, c.CommitTimeout, c.ReplicaTimeout)
	}
	return nil
}
