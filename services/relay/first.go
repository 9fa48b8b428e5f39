package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// loadCursor reads the cursor and holds it against the row in Postgres that records the first start.
//
//	row      cursor topic             means
//	none     no cursor                the first start: the row is written, durably, before anything is committed
//	this     a cursor                 go on from it
//	this     no cursor, nothing out   a crash between the row and the first commit: the first start again
//	this     no cursor, events out    the cursor was lost
//	none     a cursor                 the cursor of another database, or a database restored to before the first start
//	another  whatever                 another cluster, or a cursor topic made anew
//
// The last three stop: a missing or foreign cursor never means "from the beginning".
func (s *session) loadCursor(
	ctx context.Context, logs map[string][]*partitionLog, where place, first store.First, started bool,
) (*cursor, error) {
	value, err := logs[cursorTopic(s.cfg.Outbox)][cursorPartition].newestCursor(ctx)
	if err != nil {
		return nil, err
	}
	if value != nil && !started { // another relay may have made the first start since that was asked
		if first, started, err = store.Started(ctx, s.conn, s.cfg.Schema); err != nil {
			return nil, fmt.Errorf("read the record of the first start: %w", err)
		}
	}
	here := store.First{ClusterID: where.cluster, CursorTopicID: where.topicID}
	if err := s.checkPlace(first, here, started, value != nil); err != nil {
		return nil, err
	}
	if value != nil {
		return decodeCursor(value)
	}
	if started {
		if err := s.checkNothingOut(ctx, logs); err != nil {
			return nil, err
		}
	}
	if err := store.MarkStarted(ctx, s.conn, s.cfg.Schema, here); err != nil {
		return nil, fmt.Errorf("record the first start: %w", err)
	}
	s.r.point(pointFirst)
	return s.firstCursor(ctx)
}

// firstCursor stands before the first event. Its seq goes on from the highest in the topics: sinks would skip what another
// outbox, or an earlier one, has had the versions of.
func (s *session) firstCursor(ctx context.Context) (*cursor, error) {
	c := &cursor{Partitions: map[string]int32{}}
	names, err := s.existing(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		seq, err := s.topics.highestSeq(ctx, name)
		if err != nil {
			return nil, err
		}
		c.Seq = max(c.Seq, seq)
	}
	return c, nil
}

func (s *session) checkPlace(first, here store.First, started, found bool) error {
	name := cursorTopic(s.cfg.Outbox)
	switch {
	case !started && found:
		return stopf("give the outbox another name if it is new; run `millrace relay re-anchor` if the database was restored to an earlier state",
			"%w: topic %s holds a cursor, but no relay was ever started on this database", ErrCursorForeign, name)
	case !started:
		return nil
	case first.ClusterID != here.ClusterID:
		return anotherCluster(first.ClusterID, here.ClusterID)
	case first.CursorTopicID != here.CursorTopicID:
		return stopf("bring the old topic back: without it nobody knows what was published",
			"%w: topic %s has id %s, the outbox's cursor topic had %s: it was deleted and made anew",
			ErrCursorForeign, name, here.CursorTopicID, first.CursorTopicID)
	}
	return nil
}

// checkCluster stops on another Kafka cluster than the outbox is published to, before anybody misses topics there or brings them
// "back".
func (s *session) checkCluster(ctx context.Context, first store.First) error {
	here, err := s.topics.admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask Kafka who it is: %w", err)
	}
	if first.ClusterID != here.Cluster {
		return anotherCluster(first.ClusterID, here.Cluster)
	}
	return nil
}

func anotherCluster(first, here string) error {
	return stopf("connect to the Kafka cluster this outbox was published to",
		"%w: this is Kafka cluster %q, the outbox is published to %q", ErrCursorForeign, here, first)
}

// checkNothingOut stops when a relay of this outbox has ever committed: its traces outlive a cursor log that lost its data.
func (s *session) checkNothingOut(ctx context.Context, logs map[string][]*partitionLog) error {
	lost := func(trace string) error {
		return stopf("bring the topic's data back: without it nobody knows what was published",
			"%w: topic %s holds none, yet %s", ErrCursorMissing, cursorTopic(s.cfg.Outbox), trace)
	}
	cursorLog := logs[cursorTopic(s.cfg.Outbox)][cursorPartition]
	if cursorLog.start > 0 {
		return lost(fmt.Sprintf("its first %d records were deleted", cursorLog.start))
	}
	traces := append([]*partitionLog{logs[cursorTopic(s.cfg.Outbox)][idPartition]}, logs[parkedTopic(s.cfg.Outbox)]...)
	events, err := s.eventLogs(ctx)
	if err != nil {
		return err
	}
	for _, l := range append(traces, events...) {
		out := false
		err := l.scan(ctx, l.start, func(r *kgo.Record) bool {
			out = l.topic == cursorTopic(s.cfg.Outbox) || l.topic == parkedTopic(s.cfg.Outbox) || s.published(r)
			return !out
		})
		if err != nil {
			return err
		}
		if out {
			return lost("topic " + l.topic + " holds what this outbox published")
		}
	}
	return nil
}

// eventLogs opens those of the configured topics that exist.
func (s *session) eventLogs(ctx context.Context) ([]*partitionLog, error) {
	names, err := s.existing(ctx)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	logs, err := openLogs(ctx, s.client, committedEnds, names...)
	if err != nil {
		return nil, err
	}
	var all []*partitionLog
	for _, l := range logs {
		all = append(all, l...)
	}
	return all, nil
}

// existing returns those of the configured topics that exist.
func (s *session) existing(ctx context.Context) ([]string, error) {
	if len(s.cfg.Topics) == 0 {
		return nil, nil
	}
	meta, err := s.topics.admin.Metadata(ctx, slices.Collect(maps.Keys(s.cfg.Topics))...)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka about the events topics: %w", err)
	}
	var names []string
	for name, detail := range meta.Topics {
		if !errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
			names = append(names, name)
		}
	}
	return names, nil
}

// published says whether a record was written by a relay of this outbox.
func (s *session) published(r *kgo.Record) bool {
	seq, source := false, s.cfg.CompactHeaders
	for _, h := range r.Headers {
		seq = seq || h.Key == headerSeq
		source = source || h.Key == headerSource && string(h.Value) == s.cfg.Source
	}
	return seq && source
}
