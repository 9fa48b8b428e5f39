package consumers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// monitor asks for the ends of the topics and commits positions to the group, until ctx ends.
func (c *Consumer) monitor(ctx context.Context) {
	t := time.NewTicker(c.cfg.MonitorInterval)
	defer t.Stop()
	for {
		c.observe(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (c *Consumer) observe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	c.mu.Lock()
	lanes := maps.Clone(c.lanes)
	c.mu.Unlock()
	positions := map[TopicPartition]int64{}
	for tp, l := range lanes {
		if at := l.position(); at >= 0 {
			positions[tp] = at
		}
	}
	asked := time.Now().UTC()
	lags, err := Lags(ctx, c.adm, positions, c.cfg.Topics...)
	switch {
	case err == nil:
		c.outages.end(outageKafka, TopicPartition{})
		c.outages.end(outageTopic, TopicPartition{})
		c.setReached()
	case ctx.Err() != nil && context.Cause(c.fetching) != nil:
		return
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		c.outages.end(outageKafka, TopicPartition{})
		c.outages.begin(outageTopic, TopicPartition{}, err)
		c.setReached()
	default:
		c.outages.begin(outageKafka, TopicPartition{}, err)
	}
	for _, lag := range lags {
		if l := lanes[lag.TopicPartition]; l != nil {
			l.observed(lag, asked)
			c.metrics.observed(l.status())
		}
	}
	c.watchTopics(ctx)
	c.metrics.through(c.Status().Partitions)
	c.commit(lanes)
}

func (c *Consumer) setReached() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached = true
}

// observed takes over what is known of the partition's end.
func (l *lane) observed(lag Lag, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start, l.end = lag.Start, lag.End
	if l.next >= lag.End || l.next < 0 && lag.Start == lag.End {
		l.caughtUp = asked
	}
}

// PartitionStatus tells how far a partition is.
type PartitionStatus struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	State     State  `json:"state"`
	// Position is the offset to apply next; -1 before anything was applied.
	Position int64 `json:"position"`
	// End is where the committed records end, as far as known; -1 before it was asked for.
	End int64 `json:"end"`
	// Lag is the number of offsets from the position to the end; 0 when caught up.
	Lag int64 `json:"lag"`
	// Buffered is the number of records that were fetched and are not applied.
	Buffered int `json:"buffered"`
	// LastEvent is the time of the youngest event applied since the partition was claimed; zero if there was none.
	LastEvent time.Time `json:"last_event"`
	// ValidThrough is the time up to which the sink holds everything: when the end was last reached, or that of the last event.
	ValidThrough time.Time `json:"valid_through"`
}

// Status tells how far a consumer is.
type Status struct {
	Name  string `json:"name"`
	Group string `json:"group"`
	// Problem says what is waited for; empty if nothing is.
	Problem    string            `json:"problem,omitempty"`
	Lag        int64             `json:"lag"`
	Partitions []PartitionStatus `json:"partitions"`
}

// Status returns the state of the partitions that this process owns, in order.
func (c *Consumer) Status() Status {
	s := Status{Name: c.cfg.Name, Group: c.cfg.Group, Partitions: []PartitionStatus{}}
	if err := c.Health(); err != nil {
		s.Problem = err.Error()
	}
	c.mu.Lock()
	lanes := maps.Clone(c.lanes)
	c.mu.Unlock()
	for _, l := range lanes {
		p := l.status()
		s.Lag += p.Lag
		s.Partitions = append(s.Partitions, p)
	}
	sortPartitions(s.Partitions)
	return s
}

// Health returns what keeps the consumer from its work; nil when nothing does. A member without partitions is healthy.
func (c *Consumer) Health() error {
	c.mu.Lock()
	started, reached := c.started, c.reached
	c.mu.Unlock()
	switch {
	case !started:
		return errors.New("not started")
	case c.fetching.Err() != nil:
		return fmt.Errorf("stopped: %w", context.Cause(c.fetching))
	}
	if err := c.outages.err(); err != nil {
		return err
	}
	if !reached {
		return errors.New("kafka has not answered yet")
	}
	return nil
}

func (l *lane) position() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

func (l *lane) status() PartitionStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := PartitionStatus{
		Topic: l.tp.Topic, Partition: l.tp.Partition, State: l.state, Position: l.next, End: l.end, Buffered: l.count,
		LastEvent: l.last, ValidThrough: l.last,
	}
	switch {
	case s.State == Idle && l.ahead.stuck:
		s.State = Waiting
	case s.State == Idle && l.count > 0:
		s.State = Working
	}
	if l.end >= 0 {
		s.Lag = max(l.end-max(l.next, l.start), 0)
	}
	if l.caughtUp.After(s.ValidThrough) && s.Lag == 0 {
		s.ValidThrough = l.caughtUp
	}
	return s
}
