package relay

import (
	"cmp"
	"maps"
	"math"
	"regexp"
	"slices"
	"time"
)

var outboxName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)

// validate checks a configuration that has its defaults. Its errors begin with the name of the field as configuration
// files spell it.
func (c Config) validate() error {
	switch {
	case !outboxName.MatchString(c.Outbox):
		return wrong("outbox", "%q is not 1 to 100 characters of a-z, A-Z, 0-9, '.', '_' and '-'", c.Outbox)
	case c.Postgres == "":
		return wrong("postgres", "a connection string is required")
	case len(c.Kafka) == 0:
		return wrong("kafka", "options that name the brokers are required")
	case c.Registry == nil:
		return wrong("registry", "a schema registry is required")
	case c.Subjects != TopicRecordSubjects && c.Subjects != TopicSubjects && c.Subjects != RecordSubjects:
		return wrong("subjects", "%q is none of topic-record, topic, record", c.Subjects)
	case c.Delivery != ExactlyOnce && c.Delivery != AtLeastOnce:
		return wrong("delivery", "%q is neither exactly-once nor at-least-once", c.Delivery)
	case !known(codecs, c.Compression):
		return wrong("compression", "%q is none of snappy, lz4, zstd, none", c.Compression)
	case c.PageSize < 1 || c.PageSize > maxPageSize:
		return wrong("page_size", "%d is outside 1..%d", c.PageSize, maxPageSize)
	case c.MaxRecordBytes < 1024 || c.MaxRecordBytes > maxRecordBytes:
		return wrong("max_record_bytes", "%d is outside 1024..%d", c.MaxRecordBytes, maxRecordBytes)
	case c.Replication < -1 || c.Replication == 0 || c.Replication > math.MaxInt16:
		return wrong("replication", "%d is no replication factor", c.Replication)
	case c.Retention.Size < 0:
		return wrong("retention.size", "%d is negative", c.Retention.Size)
	}
	if err := cmp.Or(c.validateTimes(), c.Verify.validate()); err != nil {
		return err
	}
	return c.validateTopics()
}

func (c Config) validateTimes() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"poll_min", c.PollMin}, {"poll_max", c.PollMax}, {"poll_timeout", c.PollTimeout}, {"spacing", c.Spacing}, {"cursor_interval", c.CursorInterval}, {"registry_grace", c.RegistryGrace},
		{"transaction_timeout", c.TransactionTimeout}, {"publish_timeout", c.PublishTimeout},
		{"stop_timeout", c.StopTimeout}, {"retry_min", c.RetryMin}, {"retry_max", c.RetryMax},
	} {
		if d.value < 0 {
			return wrong(d.name, "%v is negative", d.value)
		}
	}
	switch {
	case c.PollMax < c.PollMin:
		return wrong("poll_max", "%v is less than poll_min, %v", c.PollMax, c.PollMin)
	case c.RetryMax < c.RetryMin:
		return wrong("retry_max", "%v is less than retry_min, %v", c.RetryMax, c.RetryMin)
	case c.PublishTimeout >= c.TransactionTimeout:
		return wrong("publish_timeout", "%v is not less than transaction_timeout, %v", c.PublishTimeout, c.TransactionTimeout)
	}
	return nil
}

func (c Config) validateTopics() error {
	if err := c.TopicDefaults.validate("topic_defaults"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Topics)) {
		if reason := topicNameFault(name); reason != "" {
			return wrong("topics", "%q: %s", name, reason)
		}
		if err := c.Topics[name].validate("topics." + name); err != nil {
			return err
		}
	}
	return nil
}

func (t Topic) validate(field string) error {
	switch {
	case t.Partitions < 1 || t.Partitions > maxPartitions:
		return wrong(field+".partitions", "%d is outside 1..%d", t.Partitions, maxPartitions)
	case t.Replication < -1 || t.Replication == 0 || t.Replication > math.MaxInt16:
		return wrong(field+".replication", "%d is no replication factor", t.Replication)
	case !slices.Contains(poisons, t.OnPoison):
		return wrong(field+".on_poison", "%q is none of park-key, park-event, stop", t.OnPoison)
	}
	return nil
}

func known[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}
