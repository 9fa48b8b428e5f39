package consumers

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/schemas"
)

// Config says what a consumer reads and how much it holds.
type Config struct {
	// Name names the sink in logs, metrics and topics, for example "warehouse". Required.
	Name string
	// Group is the consumer group. Default "millrace." and Name. Its committed offsets are for monitoring: where to go on from, the
	// Processor knows.
	Group string
	// Topics are read from the beginning to the end and on. Required. One that does not exist yet is waited for.
	Topics []string
	// Kafka says how Kafka is reached: seed brokers, TLS, SASL. Required.
	Kafka []kgo.Opt
	// Registry resolves schema ids. Required.
	Registry Registry
	// Catalogue holds the reader's schemas; see DecoderConfig. Default: none.
	Catalogue *schemas.Catalogue
	// MaxValue is the size in bytes of the largest record value; a larger one is poison. Default 16 MiB.
	MaxValue int
	// UnknownGrace is how long a schema id that the registry does not know is waited for; see DecoderConfig. Default 5 s.
	UnknownGrace time.Duration

	// BatchEvents is the most records in a batch. Default 5,000.
	BatchEvents int
	// BatchBytes ends a batch that has so many bytes of records. Default 4 MiB. A batch has one record at least.
	BatchBytes int
	// Linger is how long a batch that is not full waits for more. Default 0: a batch is what is there.
	Linger time.Duration
	// LaneRecords is the number of records from which a partition is not fetched, until half is worked off. Default 10,000.
	LaneRecords int
	// LaneBytes is the same in bytes. Default 8 MiB.
	LaneBytes int
	// TotalBytes bounds the records that all lanes hold, decoded or not, apart from the batches that are with the Processor: each has an equal share. Default 64 MiB.
	TotalBytes int

	// StopTimeout is how long a batch in hand may take when Run is stopped. Default 10 s.
	StopTimeout time.Duration
	// RevokeTimeout is how long a batch in hand may take when the group moves its partition. Default 10 s; at most 30 s, for the
	// group waits.
	RevokeTimeout time.Duration
	// RetryMin and RetryMax bound the pause before a transient error is tried again. It doubles each time, and varies by a
	// quarter. Default 100 ms and 10 s.
	RetryMin, RetryMax time.Duration
	// MonitorInterval is how often ends are asked for and positions committed to the group. Default 1 s.
	MonitorInterval time.Duration
	// SessionTimeout is after how long without a heartbeat the group gives the partitions to others. Default 45 s, Kafka's own.
	SessionTimeout time.Duration

	// Attends says whether what is asked about dead letters is this consumer's business: another one of the same name may have it. Default: it is. See
	// Consumer.Attend.
	Attends func() bool

	// Logger gets a line for each change of state. Default: nothing is logged.
	Logger *slog.Logger
	// Tracer makes a span for each event whose writer's trace (header traceparent) is sampled. Default: there are none.
	Tracer trace.Tracer
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with every unset field filled in.
func (c Config) WithDefaults() Config {
	if c.Group == "" && c.Name != "" {
		c.Group = "millrace." + c.Name
	}
	set(&c.MaxValue, defaultMaxValue)
	set(&c.BatchEvents, 5000)
	set(&c.BatchBytes, 4<<20)
	set(&c.LaneRecords, 10_000)
	set(&c.LaneBytes, 8<<20)
	set(&c.TotalBytes, 64<<20)
	set(&c.StopTimeout, 10*time.Second)
	set(&c.RevokeTimeout, 10*time.Second)
	set(&c.RetryMin, 100*time.Millisecond)
	set(&c.RetryMax, 10*time.Second)
	set(&c.MonitorInterval, time.Second)
	set(&c.SessionTimeout, 45*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func set[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// maxRevokeTimeout leaves the group, whose rebalances time out after 60 s, its time.
const maxRevokeTimeout = 30 * time.Second

func (c Config) validate() error {
	switch {
	case c.Name == "":
		return errors.New("consumer: Name is missing")
	case len(c.Topics) == 0:
		return fmt.Errorf("consumer %s: Topics is empty", c.Name)
	case slices.Contains(c.Topics, ""):
		return fmt.Errorf("consumer %s: Topics has an empty name", c.Name)
	case len(c.Kafka) == 0:
		return fmt.Errorf("consumer %s: Kafka is empty", c.Name)
	case c.Registry == nil:
		return fmt.Errorf("consumer %s: Registry is missing", c.Name)
	case c.RetryMax < c.RetryMin:
		return fmt.Errorf("consumer %s: RetryMax %s is below RetryMin %s", c.Name, c.RetryMax, c.RetryMin)
	case c.RevokeTimeout > maxRevokeTimeout:
		return fmt.Errorf("consumer %s: RevokeTimeout %s is above %s", c.Name, c.RevokeTimeout, maxRevokeTimeout)
	}
	for name, n := range map[string]int{"MaxValue": c.MaxValue, "BatchEvents": c.BatchEvents, "BatchBytes": c.BatchBytes,
		"LaneRecords": c.LaneRecords, "LaneBytes": c.LaneBytes, "TotalBytes": c.TotalBytes} {
		if n < 0 {
			return fmt.Errorf("consumer %s: %s is %d, below 0", c.Name, name, n)
		}
	}
	for name, d := range map[string]time.Duration{"Linger": c.Linger, "StopTimeout": c.StopTimeout, "RevokeTimeout": c.RevokeTimeout,
		"RetryMin": c.RetryMin, "MonitorInterval": c.MonitorInterval, "SessionTimeout": c.SessionTimeout} {
		if d < 0 {
			return fmt.Errorf("consumer %s: %s is %s, below 0", c.Name, name, d)
		}
	}
	return nil
}

// fetchBytes bounds an answer of a broker; most that kgo holds beside the lanes.
func (c Config) fetchBytes() int32 {
	return int32(min(max(c.TotalBytes/4, 1<<20), 16<<20))
}

// options are those of the Kafka client.
func (c *Consumer) options() []kgo.Opt {
	return append(slices.Clone(c.cfg.Kafka),
		kgo.ConsumerGroup(c.cfg.Group),
		kgo.ConsumeTopics(c.cfg.Topics...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.DisableAutoCommit(),
		// Promise 3: nothing that was not committed is seen.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions take offsets. They are kept so that positions pass them and reach the very end.
		kgo.KeepControlRecords(),
		// Promise 1: an offset that is gone is an error, never a reason to go on elsewhere.
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
		kgo.AdjustFetchOffsetsFn(c.adopt),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
		// A poll and what is done with it is one step for the group: records of a partition that was taken away and given back
		// in between cannot reach its new lane. Nothing is worked on inside that step, so the group never waits for it.
		kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxBytes(c.cfg.fetchBytes()),
		// A partition that is resumed waits for the fetch under way, which may be waiting for records of the others.
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MaxDecompressBatchBytes(maxBatchBytes),
		kgo.MetadataMinAge(250*time.Millisecond),
		kgo.MetadataMaxAge(30*time.Second),
	)
}

// maxBatchBytes bounds what a compressed batch of records may grow to.
const maxBatchBytes = 128 << 20
