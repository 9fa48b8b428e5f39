package sink

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/cache/purge"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search/opensearch"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
	"github.com/millrace/millrace/consumers/webhook"
	"github.com/millrace/millrace/services/internal/conf"
)

// Config configures one sink. Zero values mean the documented default.
type Config struct {
	// Name is the sink's name. It is part of the consumer group and of the dead-letter topic. Required.
	Name string `yaml:"-"`
	// Kind is the backend: duckdb or postgres (warehouse), bleve or opensearch (search), redis (cache), or webhook. Required.
	Kind string `yaml:"kind"`
	// Path is the file (duckdb) or folder (bleve) of an embedded backend.
	Path string `yaml:"path"`
	// URL connects to a backend that is a server: redis://[user:password@]host:port/db, https://host:9200,
	// postgres://user:password@host:port/db; or it is where a webhook posts.
	URL string `yaml:"url"`
	// Username and Password are sent to opensearch. The password is also that of a postgres URL, apart from it so that nothing in it
	// need be escaped; it wins over the URL's. It is best given as ${VAR} or ${file:PATH}.
	Username string `yaml:"username"`
	Password string `yaml:"password"`
	// TLS is for an opensearch or a webhook whose URL begins with https://.
	TLS conf.TLS `yaml:"tls,omitzero"`
	// IndexPrefix begins the names of opensearch's indices, and of the aliases that others search them by. Default "millrace".
	IndexPrefix string `yaml:"index_prefix"`
	// RefreshInterval is how long a document of opensearch may wait until searches find it; "forever" leaves that to somebody else.
	// Default 1 s.
	RefreshInterval time.Duration `yaml:"refresh_interval"`
	// Compress sends requests to opensearch compressed: for a slow network. Default false.
	Compress bool `yaml:"compress"`
	// Schema stands before the names of a postgres warehouse's schemas, so that several can live in one database. Default: nothing does.
	Schema string `yaml:"schema"`
	// Bronze says what a warehouse (duckdb, postgres) keeps of events: json (payload and fields, the default), payload or off.
	Bronze string `yaml:"bronze"`
	// Connections is the most connections to a postgres warehouse that write at a time. Default 8.
	Connections int `yaml:"connections"`
	// Prefix stands before every key of a cache. Default: the backend's.
	Prefix string `yaml:"prefix"`
	// Secret signs what a webhook posts: whsec_ and 24 to 64 random bytes in base64; while it is being changed, the new one and the old with a blank
	// between them. Best given as ${VAR} or ${file:PATH}. Required for a webhook.
	Secret string `yaml:"secret"`
	// Headers are sent with every post of a webhook, such as Authorization. They are not shown.
	Headers map[string]string `yaml:"headers"`
	// Types are the events that a webhook posts, by the full names of their schemas, for example [shop.OrderPlaced]. Default: those of every type.
	Types []string `yaml:"types"`
	// Start says where a webhook begins that has no position yet: earliest (the oldest event that the topics have, the default), latest (what comes from the sink's start on), or a time,
	// for example 2026-03-01T10:00:00Z. Later it changes nothing.
	Start string `yaml:"start"`
	// Concurrency is the most posts of a webhook under way at a time, from this process. Default 16.
	Concurrency int `yaml:"concurrency"`
	// Timeout bounds a post of a webhook with its answer. Default 15 s.
	Timeout time.Duration `yaml:"timeout"`
	// Purge has what a cache invalidates purged from a CDN, too.
	Purge Purge `yaml:"purge,omitzero"`
	// Topics are the topics that are followed, by a sink that keeps events (duckdb, postgres) or posts them (webhook). Default: those of Entities.
	Topics []string `yaml:"topics"`
	// Entities are the entities that are kept. Default: every entity of Topics; without Topics, every entity.
	Entities []string `yaml:"entities"`
	// BatchEvents is the most events applied at once. Default 5000; 10,000 for postgres, 20,000 for duckdb; 500 for a webhook, which after a crash repeats at most a batch a partition.
	BatchEvents int `yaml:"batch_events"`
	// StateCache bounds the states that the process remembers beside the store, over all its partitions. Default 48MiB; less keeps
	// memory down, more saves loads where keys come again after a while.
	StateCache conf.Size `yaml:"state_cache"`
	// SessionTimeout is how long the partitions of a process that was killed wait before the group gives them to another, or to its
	// successor. Default 10 s for an embedded backend, whose store belongs to one process anyway; 45 s, as Kafka has it, for others.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// Gold are the models of a warehouse: SQL over its entities, built when they have moved. Default: none.
	Gold Gold `yaml:"gold,omitzero"`
	// Verify has the sink compared with its topics now and then. Default: only millrace verify does.
	Verify Verify `yaml:"verify,omitzero"`

	// metrics takes those of the backend, generation is the number of the one that is opened (0: the first), building says that nobody reads it yet, and effects
	// whether what leaves the store is let out (nil: it is); Run sets them.
	metrics    prometheus.Registerer
	generation int
	building   bool
	effects    *atomic.Bool
}

// Purge says how a CDN is told to forget what is tagged with a cache key; see consumers/cache/purge.
type Purge struct {
	// URL is where purges are posted, the whole address. Required.
	URL string `yaml:"url"`
	// Shape is surrogate-key (a header with the keys, the default) or json (a list in the body).
	Shape string `yaml:"shape"`
	// Field names the list of the shape json. Default surrogate_keys.
	Field string `yaml:"field"`
	// Headers are sent with every request, such as Fastly-Key. They are not shown.
	Headers map[string]string `yaml:"headers"`
	// BatchKeys is the most keys in a request. Default 256.
	BatchKeys int `yaml:"batch_keys"`
	// Timeout bounds a request with its answer. Default 15 s.
	Timeout time.Duration `yaml:"timeout"`
}

func (p Purge) set() bool {
	return p.URL != "" || p.Shape != "" || p.Field != "" || len(p.Headers) > 0 || p.BatchKeys != 0 || p.Timeout != 0
}

func (p Purge) config() purge.Config {
	return purge.Config{URL: p.URL, Shape: purge.Shape(p.Shape), Field: p.Field, Headers: p.Headers, BatchKeys: p.BatchKeys, Timeout: p.Timeout}
}

// webhookBatch is the default of BatchEvents for a webhook.
const webhookBatch = 500

// duckdbBatch is the default of BatchEvents for duckdb: what a MERGE and a commit cost hardly depends on how much is in them.
const duckdbBatch = 20_000

// postgresBatch is the default of BatchEvents for postgres: of more events more have one key, and more rows one page, which spares the server work.
const postgresBatch = 10_000

func (c Config) batchEvents() int {
	switch {
	case c.BatchEvents == 0 && c.Role() == Webhook:
		return webhookBatch
	case c.BatchEvents == 0 && c.Kind == "duckdb":
		return duckdbBatch
	case c.BatchEvents == 0 && c.Kind == "postgres":
		return postgresBatch
	}
	return c.BatchEvents
}

// eventBytes is for how large events a large batch has room, in bytes; see consumers.Config.BatchBytes.
const eventBytes = 800

// bounds sets what the consumer of the sink holds: without that, batches of many events would end at a few MiB.
func (c Config) bounds(cfg *consumers.Config) {
	if cfg.BatchEvents = c.batchEvents(); cfg.BatchEvents <= (consumers.Config{}).WithDefaults().BatchEvents {
		return
	}
	cfg.BatchBytes = min(cfg.BatchEvents*eventBytes, maxBatchBytes)
	cfg.LaneRecords, cfg.LaneBytes = 2*cfg.BatchEvents, 2*cfg.BatchBytes
	if c.Kind == "postgres" { // its lanes write at the same time: what waits in one need not keep it busy alone
		cfg.LaneRecords, cfg.LaneBytes = cfg.BatchEvents, cfg.BatchBytes
	}
}

// maxBatchBytes is the most bytes that a batch is given room for.
const maxBatchBytes = 32 << 20

// embeddedSession is the default session timeout of an embedded backend.
const embeddedSession = 10 * time.Second

// sessionTimeout is the one to use; 0 means Kafka's default.
func (c Config) sessionTimeout() time.Duration {
	if c.SessionTimeout == 0 && c.Embedded() {
		return embeddedSession
	}
	return c.SessionTimeout
}

const (
	maxBatchEvents = 1_000_000
	maxConnections = 1000
)

// postgresOnly is a setting of postgres that is set; "" if none is.
func (c Config) postgresOnly() string {
	switch {
	case c.Schema != "":
		return "schema"
	case c.Connections != 0:
		return "connections"
	}
	return ""
}

// KeepsEvents says whether the sink has a use for topics without any projection.
func (c Config) KeepsEvents() bool {
	return kinds[c.Kind].bronze && c.Bronze != string(warehouse.BronzeOff)
}

// Role is what the sink is for; "" for an unknown kind.
func (c Config) Role() Role { return kinds[c.Kind].role }

// Embedded says whether the store is in the sink's own process, as DuckDB and bleve are.
func (c Config) Embedded() bool { return kinds[c.Kind].needs == "path" }

// DeadLetterTopic is the topic of a sink's dead letters.
func DeadLetterTopic(name string) string { return consumers.DeadLetterTopic(name) }

// ConfigError says what is wrong with a configuration, and under which key.
type ConfigError struct {
	// Key is the setting, as it is written in the file.
	Key string
	Err error
}

// Error returns "key: reason".
func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *ConfigError) Unwrap() error { return e.Err }

func wrong(key, format string, args ...any) error {
	return &ConfigError{key, fmt.Errorf(format, args...)}
}

// names are what Kafka and the paths under which a sink answers allow.
var names = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

// Check returns a *ConfigError about what is wrong by itself, or nil.
func (c Config) Check() error {
	k, known := kinds[c.Kind]
	switch {
	case !names.MatchString(c.Name):
		return wrong("name", "%q is not 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-', the first a letter or digit", c.Name)
	case c.Kind == "":
		return wrong("kind", "is missing: one of %s", strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case !known:
		return wrong("kind", "%q is none of %s", c.Kind, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case k.needs == "path" && c.Path == "":
		return wrong("path", "is missing: where %s keeps its data", c.Kind)
	case k.needs == "url" && c.URL == "":
		return wrong("url", "is missing: how %s is reached", c.Kind)
	case k.needs != "path" && c.Path != "":
		return wrong("path", "is not for %s, which is reached by its url", c.Kind)
	case k.needs != "url" && c.URL != "":
		return wrong("url", "is not for %s, which keeps its data at its path", c.Kind)
	case c.Prefix != "" && k.role != Cache:
		return wrong("prefix", "is for caches")
	case c.Password != "" && c.Kind != "opensearch" && c.Kind != "postgres":
		return wrong("password", "is for opensearch and postgres")
	case c.Kind != "opensearch" && c.openSearchOnly() != "":
		return wrong(c.openSearchOnly(), "is for opensearch")
	case c.TLS != (conf.TLS{}) && c.Kind != "opensearch" && c.Kind != "webhook":
		return wrong("tls", "is for opensearch and webhooks")
	case c.Kind != "webhook" && c.webhookOnly() != "":
		return wrong(c.webhookOnly(), "is for webhooks")
	case c.Kind != "redis" && c.Purge.set():
		return wrong("purge", "is for caches")
	case c.BatchEvents < 0 || c.BatchEvents > maxBatchEvents:
		return wrong("batch_events", "%d is outside 1..%d", c.BatchEvents, maxBatchEvents)
	case c.SessionTimeout < 0:
		return wrong("session_timeout", "%v is below 0", c.SessionTimeout)
	case c.Bronze != "" && k.role != Warehouse:
		return wrong("bronze", "is for warehouses")
	case c.Kind != "postgres" && c.postgresOnly() != "":
		return wrong(c.postgresOnly(), "is for postgres")
	case c.Connections < 0 || c.Connections > maxConnections:
		return wrong("connections", "%d is outside 1..%d", c.Connections, maxConnections)
	case len(c.Topics) > 0 && !k.bronze:
		return wrong("topics", "are for sinks that keep events; a %s sink follows the topics of its entities", k.role)
	}
	if err := errors.Join(c.Gold.check(k), c.Verify.check(k)); err != nil {
		return err
	}
	if c.IndexPrefix != "" {
		if err := opensearch.CheckPrefix(c.IndexPrefix); err != nil {
			return &ConfigError{"index_prefix", err}
		}
	}
	if err := postgres.CheckSchema(c.Schema); err != nil {
		return &ConfigError{"schema", err}
	}
	if err := warehouse.CheckBronze(warehouse.Bronze(c.Bronze)); err != nil {
		return &ConfigError{"bronze", err}
	}
	if k.check != nil {
		if err := k.check(c); err != nil {
			return &ConfigError{k.needs, err}
		}
	}
	if c.Purge.set() {
		if err := c.Purge.config().Check(); err != nil {
			return &ConfigError{"purge", err}
		}
	}
	if c.Role() == Webhook {
		return c.checkWebhook()
	}
	return nil
}

// checkWebhook looks at what is a webhook's alone.
func (c Config) checkWebhook() error {
	switch {
	case len(c.Topics)+len(c.Entities) == 0:
		return wrong("topics", "is missing: which topics are posted")
	case c.Concurrency < 0 || c.Concurrency > webhook.MaxConcurrency:
		return wrong("concurrency", "%d is outside 1..%d", c.Concurrency, webhook.MaxConcurrency)
	case startError(c.Start) != nil:
		return &ConfigError{"start", startError(c.Start)}
	case c.Timeout < 0:
		return wrong("timeout", "%v is below 0", c.Timeout)
	case c.StateCache != 0:
		return wrong("state_cache", "is for sinks that keep states")
	}
	if _, err := webhook.ReadSecrets(c.Secret); err != nil {
		return &ConfigError{"secret", err}
	}
	if err := webhook.CheckHeaders(c.Headers); err != nil {
		return &ConfigError{"headers", err}
	}
	return nil
}

// webhookOnly is a setting of webhooks that is set; "" if none is.
func (c Config) webhookOnly() string {
	switch {
	case c.Secret != "":
		return "secret"
	case len(c.Headers) > 0:
		return "headers"
	case len(c.Types) > 0:
		return "types"
	case c.Start != "":
		return "start"
	case c.Concurrency != 0:
		return "concurrency"
	case c.Timeout != 0:
		return "timeout"
	}
	return ""
}

// openSearchOnly is a setting of opensearch that is set; "" if none is.
func (c Config) openSearchOnly() string {
	switch {
	case c.Username != "":
		return "username"
	case c.IndexPrefix != "":
		return "index_prefix"
	case c.RefreshInterval != 0:
		return "refresh_interval"
	case c.Compress:
		return "compress"
	}
	return ""
}

// Available returns nil, or a *ConfigError if this program was built without the backend.
func (c Config) Available() error {
	if err := kinds[c.Kind].missing; err != nil {
		return wrong("kind", "%s: %w", c.Kind, err)
	}
	return nil
}

// Resolve returns the projections that the sink keeps and the topics that it follows, or a *ConfigError.
func (c Config) Resolve(all []*projection.Projection) (keep []fold.Projection, topics []string, err error) {
	topics = slices.Clone(c.Topics)
	for _, p := range all {
		switch {
		case len(c.Entities) > 0:
			if !slices.Contains(c.Entities, p.Entity()) {
				continue
			}
		case len(c.Topics) > 0 && !slices.Contains(c.Topics, p.Topic()):
			continue
		}
		keep = append(keep, p)
		topics = append(topics, p.Topic())
	}
	for _, e := range c.Entities {
		if !slices.ContainsFunc(keep, func(p fold.Projection) bool { return p.Entity() == e }) {
			return nil, nil, wrong("entities", "no projection declares entity %q", e)
		}
	}
	if c.Role() == Webhook {
		keep = nil // events are posted as they come; nothing is folded
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	if len(topics) == 0 || len(keep) == 0 && !c.KeepsEvents() {
		return nil, nil, wrong("entities", "there is nothing to follow: no projection is declared (see projections)")
	}
	return keep, topics, nil
}
