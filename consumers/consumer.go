package consumers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// pollRecords is the most records taken from the client at once; a lane may hold so many more than it should.
const pollRecords = 5000

// Consumer reads topics as a member of a group and gives each partition's events to a Processor, in order.
type Consumer struct {
	cfg     Config
	proc    Processor
	dec     *Decoder
	log     *slog.Logger
	metrics *metrics
	outages *outages
	control *control                // nil if the Processor puts nothing aside
	asked   atomic.Pointer[control] // the same, for those who are not lanes
	held    atomic.Pointer[hold]
	stood   chan struct{} // a lane stands

	cl   *kgo.Client
	adm  *kadm.Client
	made chan struct{} // closed when both are set; the group may give partitions before that
	// fetching ends when the consumer is to stop; work goes on until it has had its time.
	fetching context.Context
	fail     context.CancelCauseFunc
	working  context.Context

	offsets  sync.Mutex // held while the client's offsets are set or committed; lane.mu may be taken under it
	mu       sync.Mutex // guards the following
	started  bool
	claimed  map[TopicPartition]bool
	ids      map[string]kadm.TopicID // of the topics, when a partition was claimed
	lanes    map[TopicPartition]*lane
	seeks    []*seek
	wakePoll context.CancelFunc // ends the poll under way
	reached  bool               // Kafka has answered
}

// errStopped is the cause of a stop that was asked for.
var errStopped = errors.New("the consumer is stopping")

// New returns a consumer that does nothing before Run. An error names the field that is wrong.
func New(cfg Config, p Processor) (*Consumer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("consumer %s: the Processor is missing", cfg.Name)
	}
	decoding := DecoderConfig{Registry: cfg.Registry, Catalogue: cfg.Catalogue, MaxValue: cfg.MaxValue, UnknownGrace: cfg.UnknownGrace}
	if r, ok := p.(FieldReader); ok {
		decoding.Reads = r.Reads
	}
	dec, err := NewDecoder(decoding)
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", cfg.Name, err)
	}
	log := cfg.Logger.With("sink", cfg.Name)
	return &Consumer{
		cfg: cfg, proc: p, dec: dec, log: log, metrics: newMetrics(cfg.Registerer, cfg.Name), outages: newOutages(log),
		claimed: map[TopicPartition]bool{}, ids: map[string]kadm.TopicID{}, lanes: map[TopicPartition]*lane{}, stood: make(chan struct{}, 1), made: make(chan struct{}),
	}, nil
}

// Run consumes until ctx ends, and then lets the batches in hand finish within StopTimeout, leaves the group and returns
// nil. It returns early with the error that stops the sink; nothing is lost by that. Run works once.
func (c *Consumer) Run(ctx context.Context) (err error) {
	if err := c.start(ctx); err != nil {
		return err
	}
	defer func() {
		if closer, ok := c.proc.(io.Closer); ok {
			err = errors.Join(err, closer.Close())
		}
	}()
	working, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	c.working = working
	if c.cl, err = kgo.NewClient(c.options()...); err != nil {
		return fmt.Errorf("consumer %s: %w", c.cfg.Name, err)
	}
	defer c.cl.CloseAllowingRebalance()
	c.adm = kadm.NewClient(c.cl)
	close(c.made)

	if c.control, err = newControl(c); err != nil {
		return err
	}
	c.asked.Store(c.control)
	defer c.control.close()

	c.log.Info("consumer started", "group", c.cfg.Group, "topics", c.cfg.Topics)
	monitored := make(chan struct{})
	go func() { defer close(monitored); c.monitor(c.fetching) }()
	followed := make(chan struct{})
	go func() { defer close(followed); c.control.follow(c.fetching) }()
	c.poll()
	c.stop()
	<-monitored
	<-followed
	if cause := context.Cause(c.fetching); !errors.Is(cause, errStopped) {
		c.log.Error("consumer stopped", "err", cause)
		return fmt.Errorf("consumer %s: %w", c.cfg.Name, cause)
	}
	c.log.Info("consumer stopped")
	return nil
}

func (c *Consumer) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return fmt.Errorf("consumer %s: Run was called before", c.cfg.Name)
	}
	c.started = true
	fetching, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { fail(errStopped) })
	c.fetching, c.fail = fetching, fail
	return nil
}

// poll takes records from Kafka to the lanes until fetching ends.
func (c *Consumer) poll() {
	for c.fetching.Err() == nil {
		ctx := c.pollContext()
		fetches := c.cl.PollRecords(ctx, pollRecords)
		fetches.EachError(c.fetchError)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				c.feed(TopicPartition{Topic: p.Topic, Partition: p.Partition}, p.Records)
			}
		})
		c.doSeeks()
		c.cl.AllowRebalance()
	}
}

// pollContext is that of the next poll. It is over already if a lane waits for a seek.
func (c *Consumer) pollContext() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wakePoll != nil {
		c.wakePoll()
	}
	ctx, cancel := context.WithCancel(c.fetching)
	c.wakePoll = cancel
	if len(c.seeks) > 0 {
		cancel()
	}
	return ctx
}

// feed gives records to their lane. Without one the partition is no longer ours.
func (c *Consumer) feed(tp TopicPartition, records []*kgo.Record) {
	c.mu.Lock()
	l := c.lanes[tp]
	share := c.cfg.TotalBytes / max(len(c.lanes), 1)
	c.mu.Unlock()
	if l != nil {
		l.feed(records, min(share, c.cfg.LaneBytes))
	}
}

// stop lets the lanes finish, commits the positions a last time and leaves the group.
func (c *Consumer) stop() {
	c.mu.Lock()
	if c.wakePoll != nil {
		c.wakePoll()
	}
	tps := make([]TopicPartition, 0, len(c.lanes))
	for tp := range c.lanes {
		tps = append(tps, tp)
	}
	c.mu.Unlock()
	c.release(tps, c.cfg.StopTimeout)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.fetching), leaveTimeout)
	defer cancel()
	if err := c.cl.LeaveGroupContext(ctx); err != nil {
		c.log.Warn("the group was not left; it will notice by itself", "err", err)
	}
}

// leaveTimeout bounds each of the last calls to Kafka.
const leaveTimeout = 5 * time.Second
