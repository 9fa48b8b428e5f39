package sink

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// Config configures one sink. Zero values mean the documented default.
type Config struct {
	// Name is the sink's name. It is part of the consumer group and of the dead-letter topic. Required.
	Name string `yaml:"-"`
	// Kind is the backend: duckdb (warehouse), bleve (search) or redis (cache). Required.
	Kind string `yaml:"kind"`
	// Path is the file (duckdb) or folder (bleve) of an embedded backend.
	Path string `yaml:"path"`
	// URL connects to a backend that is a server: redis://[user:password@]host:port/db.
	URL string `yaml:"url"`
	// Prefix stands before every key of a cache. Default: the backend's.
	Prefix string `yaml:"prefix"`
	// Topics are the topics that are followed, by a sink that keeps events (duckdb). Default: those of Entities.
	Topics []string `yaml:"topics"`
	// Entities are the entities that are kept. Default: every entity of Topics; without Topics, every entity.
	Entities []string `yaml:"entities"`
	// BatchEvents is the most events applied at once. Default 5000.
	BatchEvents int `yaml:"batch_events"`
	// SessionTimeout is how long the partitions of a process that was killed wait before the group gives them to another, or to
	// the same one started again. Brokers usually allow 6 s to 30 min. Default 45 s, Kafka's own.
	SessionTimeout time.Duration `yaml:"session_timeout"`
}

const maxBatchEvents = 1_000_000

// Role is what the sink is for; "" for an unknown kind.
func (c Config) Role() Role { return kinds[c.Kind].role }

// Group is the consumer group of a sink.
func Group(name string) string { return "millrace." + name }

// DeadLetterTopic is the topic of a sink's dead letters.
func DeadLetterTopic(name string) string { return consumers.DeadLetterTopic(name) }

// Check says what is wrong with a configuration, and the key it is about.
func (c Config) Check() (key string, err error) {
	k, known := kinds[c.Kind]
	switch {
	case !known:
		return "kind", fmt.Errorf("%q is none of %s", c.Kind, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case k.needs == "path" && c.Path == "":
		return "path", fmt.Errorf("is missing: where %s keeps its data", c.Kind)
	case k.needs == "url" && c.URL == "":
		return "url", fmt.Errorf("is missing: how %s is reached", c.Kind)
	case c.BatchEvents < 0 || c.BatchEvents > maxBatchEvents:
		return "batch_events", fmt.Errorf("%d is outside 1..%d", c.BatchEvents, maxBatchEvents)
	case c.SessionTimeout < 0:
		return "session_timeout", fmt.Errorf("%v is below 0", c.SessionTimeout)
	case len(c.Topics) > 0 && !k.bronze:
		return "topics", fmt.Errorf("are for sinks that keep events; a %s sink follows the topics of its entities", k.role)
	}
	return "", nil
}

// Resolve returns the projections that the sink keeps and the topics that it follows, or what is wrong and the key it is about.
func (c Config) Resolve(all []*projection.Projection) (keep []fold.Projection, topics []string, key string, err error) {
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
			return nil, nil, "entities", fmt.Errorf("no projection declares entity %q", e)
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	if len(topics) == 0 || len(keep) == 0 && !kinds[c.Kind].bronze {
		return nil, nil, "entities", fmt.Errorf("there is nothing to follow: no projection is declared (see projections)")
	}
	return keep, topics, "", nil
}
