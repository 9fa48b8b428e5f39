package relay

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
)

// Registry is what the relay asks of a schema registry. *registry.Client of schemas/registry implements it; errors are
// told apart as that package documents: refused schemas park their events, everything else is tried again.
type Registry interface {
	Register(ctx context.Context, subject, text string) (id int, err error)
}

// Subjects says under which subject of the registry a schema is put.
type Subjects string

const (
	// TopicRecordSubjects puts a schema under TOPIC-FULLNAME: one topic carries many types, each evolving by itself.
	TopicRecordSubjects Subjects = "topic-record"
	// TopicSubjects puts it under TOPIC-value, for topics of a single type.
	TopicSubjects Subjects = "topic"
	// RecordSubjects puts it under FULLNAME, whatever the topic.
	RecordSubjects Subjects = "record"
)

// Compression is how batches of records are compressed on the wire and in the log.
type Compression string

// The codecs of Kafka that are worth their time here. Over records of some 450 bytes of Avro and headers in batches of a megabyte, franz-go's
// Snappy took half the time of its LZ4 and left 6 % more bytes; Zstandard left half of either in 1.3 times the time of LZ4.
const (
	SnappyCompression Compression = "snappy"
	LZ4Compression    Compression = "lz4"
	ZstdCompression   Compression = "zstd"
	NoCompression     Compression = "none"
)

// codecs are the client's names for them.
var codecs = map[Compression]kgo.CompressionCodec{
	SnappyCompression: kgo.SnappyCompression(), LZ4Compression: kgo.Lz4Compression(),
	ZstdCompression: kgo.ZstdCompression(), NoCompression: kgo.NoCompression(),
}

// Config configures the relay of one outbox. Zero values mean the documented default.
type Config struct {
	// Outbox is the outbox's name. It is part of the names of the cursor topic, the parked topic and both transactional
	// ids, so two outboxes on one Kafka must not share it. 1 to 100 characters of a-z, A-Z, 0-9, '.', '_', '-'. Required.
	Outbox string `yaml:"-"`

	// Postgres is the connection string of the database that holds the outbox. Required. It must reach the primary
	// directly: a pooler in transaction mode breaks the session lock that elects the leader.
	Postgres string `yaml:"postgres"`

	// Schema is the Postgres schema of the outbox tables. Default "outbox".
	Schema string `yaml:"schema"`

	// AllowFsyncOff accepts a Postgres that runs with fsync=off, for demonstrations: a power cut can then lose or repeat
	// events. Default false.
	AllowFsyncOff bool `yaml:"allow_fsync_off"`

	// Kafka are the client options that reach the brokers: seeds, TLS, SASL, client id. The relay adds its own for
	// producing; options that contradict those are a mistake. Required.
	Kafka []kgo.Opt `yaml:"-"`

	// Registry resolves schemas to ids. Required.
	Registry Registry `yaml:"-"`

	// Delivery is ExactlyOnce or AtLeastOnce, which is for brokers without transactions. Default ExactlyOnce: a broker that has
	// no transactions, or does not allow them, stops the relay. It can be changed between two starts, either way.
	Delivery Delivery `yaml:"delivery"`

	// Topics are the topics that events go to and how they are made when they do not exist. An existing topic is used as
	// it is.
	Topics map[string]Topic `yaml:"topics"`

	// TopicDefaults fill what an entry of Topics leaves out, and make topics that an event names but Topics does not: up to
	// 1,000 of them, then the events of further ones are parked.
	TopicDefaults Topic `yaml:"topic_defaults"`

	// OnlyListed parks events whose topic is not in Topics, instead of making the topic. Default false.
	OnlyListed bool `yaml:"only_listed"`

	// Retention says how long published rows stay in the outbox. Default: for ever.
	Retention Retention `yaml:"retention"`

	// Verify has the outbox compared with its topics now and then, by the relay that leads. Default: only millrace verify does.
	Verify Verifies `yaml:"verify,omitzero"`

	// Replication is the replication factor of the cursor and parked topics. Default: the broker's default.
	Replication int `yaml:"replication"`

	// Subjects chooses the registry's subjects. Default TopicRecordSubjects.
	Subjects Subjects `yaml:"subjects"`

	// Source is the header ce_source of every event. Default "/millrace/" and Outbox.
	Source string `yaml:"source"`

	// CompactHeaders leaves out ce_type, ce_source and ce_time: the frame tells the type, the record's timestamp the
	// time (to the millisecond). Default false.
	CompactHeaders bool `yaml:"compact_headers"`

	// Compression of what is published. Default SnappyCompression.
	Compression Compression `yaml:"compression"`

	// PageSize is the most rows read, and so the most events published in one Kafka transaction. Default 10,000.
	PageSize int `yaml:"page_size"`

	// MaxRecordBytes is the largest record published, key, value and headers together; larger ones are parked. The
	// topics the relay makes accept it; what is larger than a topic of others takes (max.message.bytes) is parked as well.
	// Default 1,000,000.
	MaxRecordBytes int `yaml:"max_record_bytes"`

	// PollMin and PollMax bound the pause between polls that found nothing: it starts at PollMin and doubles to PollMax.
	// Defaults 2 ms and 100 ms.
	PollMin time.Duration `yaml:"poll_min"`
	PollMax time.Duration `yaml:"poll_max"`

	// PollTimeout is how long one statement of a poll may take in Postgres, a page of rows with its way here included; then the relay
	// starts again from the cursor. It is for connections that were lost without a word and for locks of strangers on the outbox:
	// a page takes milliseconds. What needs longer is given twice the time, again and again. Default 2 minutes.
	PollTimeout time.Duration `yaml:"poll_timeout"`

	// RegistryGrace is how long the stream waits for a registry that does not answer before it parks the events whose schema it
	// needs the registry for, with their keys' later events behind them. They are released by themselves when it answers
	// again. Default 5 s.
	RegistryGrace time.Duration `yaml:"registry_grace"`

	// Spacing is the shortest time from one transaction to the next while there is no backlog. A transaction costs the broker
	// some milliseconds of CPU however few events it has: without a pause they fill a core at some hundred events a second, and
	// every event waits for the broker. Above 2,500 events a second it grows, by itself once more for each 500, to twenty times: those
	// who write then need the cores more than readers need the milliseconds. Default 3 ms.
	Spacing time.Duration `yaml:"spacing"`

	// CursorInterval is how old the cursor on Kafka may grow while transactions pass that wrote no event; then a
	// transaction with the cursor alone is committed. Default 1 minute.
	CursorInterval time.Duration `yaml:"cursor_interval"`

	// TransactionTimeout is how long the broker lets a transaction of a dead relay hold up readers before it aborts it.
	// A successor aborts it at once. Default 40 s; the broker's transaction.max.timeout.ms bounds it.
	TransactionTimeout time.Duration `yaml:"transaction_timeout"`

	// PublishTimeout bounds the wait for the acknowledgements of one transaction and, separately, for its commit; then
	// the relay starts again from the cursor. A request with events that nobody answers is sent again after a third of it. Must be
	// shorter than TransactionTimeout. Default 20 s.
	PublishTimeout time.Duration `yaml:"publish_timeout"`

	// StopTimeout bounds what is done after Run's context ends: finishing the transaction at hand. Default 10 s.
	StopTimeout time.Duration `yaml:"stop_timeout"`

	// RetryMin and RetryMax bound the pause before starting again after an error; it doubles in between and is jittered.
	// Defaults 100 ms and 5 s.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`

	// Logger receives changes of state. Default: nothing is logged.
	Logger *slog.Logger `yaml:"-"`

	// Tracer makes a span for each published event whose writer's trace (header traceparent) is sampled. Default: there are none.
	Tracer trace.Tracer `yaml:"-"`

	// Metrics is where the metrics of the package comment are registered, with the label outbox. Default: nowhere.
	Metrics prometheus.Registerer `yaml:"-"`
}

// Topic says how a topic is made.
type Topic struct {
	// Partitions is the number of partitions. Keys are hashed over it for ever: choose it generously. Default 12.
	Partitions int `yaml:"partitions"`
	// Replication is the replication factor. Default: the broker's default.
	Replication int `yaml:"replication"`
	// Retention is how long records are kept; negative is for ever. Default for ever: every sink can be rebuilt from the log.
	Retention time.Duration `yaml:"retention"`
	// OnPoison says what becomes of an event that cannot be published. Default ParkKey.
	OnPoison Poison `yaml:"on_poison"`
	// Configs are further topic configs as Kafka names them, such as "min.insync.replicas". They win over the above.
	Configs map[string]string `yaml:"configs"`
}

const (
	maxPageSize    = 100_000
	maxRecordBytes = 64 << 20
	maxPartitions  = 10_000
	forever        = -1
)

// WithDefaults returns a copy in which every unset field has its default.
func (c Config) WithDefaults() Config {
	c.Schema = cmp.Or(c.Schema, "outbox")
	c.Delivery = cmp.Or(c.Delivery, ExactlyOnce)
	c.Subjects = cmp.Or(c.Subjects, TopicRecordSubjects)
	c.Source = cmp.Or(c.Source, "/millrace/"+c.Outbox)
	c.Replication = cmp.Or(c.Replication, -1)
	c.Compression = cmp.Or(c.Compression, SnappyCompression)
	c.PageSize = cmp.Or(c.PageSize, 10_000)
	c.MaxRecordBytes = cmp.Or(c.MaxRecordBytes, 1_000_000)
	c.PollMin = cmp.Or(c.PollMin, 2*time.Millisecond)
	c.PollMax = cmp.Or(c.PollMax, max(100*time.Millisecond, c.PollMin))
	c.PollTimeout = cmp.Or(c.PollTimeout, 2*time.Minute)
	c.RegistryGrace = cmp.Or(c.RegistryGrace, 5*time.Second)
	c.Spacing = cmp.Or(c.Spacing, 3*time.Millisecond)
	c.CursorInterval = cmp.Or(c.CursorInterval, time.Minute)
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, 40*time.Second)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, c.TransactionTimeout/2)
	c.StopTimeout = cmp.Or(c.StopTimeout, 10*time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, 100*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, max(5*time.Second, c.RetryMin))
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.TopicDefaults = c.TopicDefaults.or(Topic{Partitions: 12, Replication: -1, Retention: forever, OnPoison: ParkKey})
	topics := make(map[string]Topic, len(c.Topics))
	for name, t := range c.Topics {
		topics[name] = t.or(c.TopicDefaults)
	}
	c.Topics = topics
	return c
}

// or fills what t leaves out from d.
func (t Topic) or(d Topic) Topic {
	t.Partitions = cmp.Or(t.Partitions, d.Partitions)
	t.Replication = cmp.Or(t.Replication, d.Replication)
	t.Retention = cmp.Or(t.Retention, d.Retention)
	t.OnPoison = cmp.Or(t.OnPoison, d.OnPoison)
	merged := make(map[string]string, len(t.Configs)+len(d.Configs))
	for k, v := range d.Configs {
		merged[k] = v
	}
	for k, v := range t.Configs {
		merged[k] = v
	}
	t.Configs = merged
	return t
}
