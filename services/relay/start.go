package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// startTimeout bounds the way from connecting to the first poll. It is longer than what Kafka may take to abort the
// transactions of a predecessor.
const startTimeout = 60 * time.Second

// abortTimeout bounds the attempt to abort an open transaction when a session ends.
const abortTimeout = 2 * time.Second

// session is the relay between two starts: connections, the cursor, and what was read back with it. Whatever goes wrong,
// it is thrown away wholly and a new one starts from the cursor.
type session struct {
	r        *Relay
	cfg      Config
	conn     *pgx.Conn
	client   *kgo.Client // for administration and reading
	topics   *topics
	producer delivery
	epochs   map[int64]int16 // of the producer ids that were taken; nil where there are none
	pages    *prefetcher
	framer   *framer
	requests *requests
	clerk    *clerk
	contents *parkedContents

	loop
}

// start makes a session ready to poll. The order is what makes it safe:
//
//	Postgres is fit to be read
//	cursor and parked topic exist; they are made at the first start only
//	both transactional ids are taken: no other relay commits from here on (at-least-once: see atLeastOnce)
//	what a broker forgot to end is ended
//	no transaction is open on those topics: what is read now is final
//	the cursor is read, and belongs to this topic and to this database
//	where transactions do not do it, the cursor is claimed by a record
//	schema ids and parked events are read to their ends
//	what operators want is read: an outbox that is paused publishes nothing
//	events topics exist with the partitions that the cursor counts on
func (r *Relay) start(ctx context.Context) (s *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s = &session{r: r, cfg: r.cfg}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	r.status.step("asking Postgres")
	reader, err := s.openPostgres(ctx)
	if err != nil {
		return s, err
	}
	first, started, err := store.Started(ctx, s.conn, s.cfg.Schema)
	if err != nil {
		return s, fmt.Errorf("read the record of the first start: %w", err)
	}
	r.status.step("reaching Kafka: the relay's own topics, and the right to publish")
	where, err := s.openKafka(ctx, first, started)
	if err != nil {
		return s, err
	}
	if err := s.endHanging(ctx); err != nil {
		return s, err
	}
	r.status.step("waiting for open transactions on %s and %s to end", cursorTopic(s.cfg.Outbox), parkedTopic(s.cfg.Outbox))
	logs, err := openLogs(ctx, s.client, stableEnds, cursorTopic(s.cfg.Outbox), parkedTopic(s.cfg.Outbox))
	if err != nil {
		return s, err
	}
	r.status.step("reading the cursor from %s", cursorTopic(s.cfg.Outbox))
	cur, err := s.loadCursor(ctx, logs, where, first, started)
	if err != nil {
		return s, err
	}
	if err := s.checkSource(ctx, reader, cur); err != nil {
		return s, err
	}
	if err := s.own(ctx, logs[cursorTopic(s.cfg.Outbox)][cursorPartition], cur); err != nil {
		return s, err
	}
	r.status.step("reading what is parked from %s", parkedTopic(s.cfg.Outbox))
	s.pages = &prefetcher{source: &patient{reader, r.patience}}
	done, err := s.newFramer(ctx, logs, s.pages, cur)
	if err != nil {
		return s, err
	}
	if s.requests, err = r.openRequests(ctx); err != nil {
		return s, err
	}
	r.status.step("making the topics for events")
	if err := s.topics.ensureConfigured(ctx, cur.Partitions); err != nil {
		return s, err
	}
	s.loop = loop{
		cfg: s.cfg, source: s.pages, publisher: s.producer, framer: s.framer, report: r, point: r.point,
		well: func() { r.trouble.report("stream")(nil) }, cursor: cur, now: time.Now, idle: s.cfg.PollMin,
	}
	s.intender, _ = s.producer.(intender)
	if _, sendsItself := s.producer.(*direct); sendsItself {
		s.together = pagesTogether
	}
	s.contents = newParkedContents(logs[parkedTopic(s.cfg.Outbox)][0], s.cfg.Schema, func(ctx context.Context) (*pgx.Conn, error) { return r.connect(ctx, "release") })
	s.contents.patience = newPatience(s.cfg.PollTimeout)
	s.clerk = newClerk(s.cfg, s.requests, s.framer, s.contents, done, r.point)
	s.loop.operator = s.clerk
	return s, nil
}

func (s *session) openPostgres(ctx context.Context) (*store.Reader, error) {
	var err error
	if s.conn, err = s.r.connect(ctx, rolePoll); err != nil {
		return nil, err
	}
	var options []store.ReaderOption
	if s.cfg.AllowFsyncOff {
		options = append(options, store.AllowFsyncOff())
	}
	reader, err := store.NewReader(ctx, s.conn, s.cfg.Schema, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare to read the outbox: %w", err)
	}
	return reader, s.r.patience.limit(ctx, s.conn) // after what NewReader sets
}

func (s *session) openKafka(ctx context.Context, first store.First, started bool) (place, error) {
	var err error
	if s.client, err = newClient(s.cfg.Kafka); err != nil {
		return place{}, err
	}
	s.topics = &topics{cfg: s.cfg, client: s.client, admin: kadm.NewClient(s.client), limits: newLimits(s.cfg, s.r.refused)}
	if started {
		if err := s.checkCluster(ctx, first); err != nil {
			return place{}, err
		}
	}
	where, err := s.topics.ensureInternals(ctx, started)
	if err != nil {
		return place{}, err
	}
	return where, s.openDelivery(ctx)
}

// checkSource stops when the database is not the one the cursor was taken from. It asks the database after the cursor was
// read: another relay may have moved it until both ids were taken, past what Postgres said before.
func (s *session) checkSource(ctx context.Context, reader *store.Reader, cur *cursor) error {
	if cur.Anchoring != nil {
		return stopf("run `millrace relay re-anchor` again: it goes on where it was", "%w (begun %s)",
			ErrAnchoring, cur.Anchoring.Begun.Format(time.RFC3339))
	}
	now, err := reader.Source(ctx)
	if err != nil {
		return fmt.Errorf("ask Postgres about itself: %w", err)
	}
	if err := store.Check(cur.Source, now); err != nil {
		return err
	}
	if err := cur.verify(ctx, reader); err != nil {
		return err
	}
	return cur.learn(ctx, reader)
}

// newFramer makes the framer, and returns what requests have done before.
func (s *session) newFramer(
	ctx context.Context, logs map[string][]*partitionLog, pages *prefetcher, cur *cursor,
) (earlier, error) {
	ids := &schemaIDs{
		registry: s.cfg.Registry, subjects: s.cfg.Subjects, lookup: pages.Schema,
		missing: func(err error) bool { return errors.Is(err, store.ErrNoSchema) },
		away:    s.r.trouble.report("registry"), retry: s.r.retry, grace: s.cfg.RegistryGrace, now: time.Now,
		cache: map[schemaKey]*resolved{}, known: map[string]int{},
	}
	idLog := logs[cursorTopic(s.cfg.Outbox)][idPartition]
	if err := idLog.scan(ctx, idLog.start, func(r *kgo.Record) bool { ids.load(r.Value); return true }); err != nil {
		return nil, err
	}
	parked := newLineLoader()
	s.r.pins.clear()
	parked.pins = &s.r.pins
	if err := scanParked(ctx, logs[parkedTopic(s.cfg.Outbox)], parked.take); err != nil {
		return nil, err
	}
	s.r.status.parked(parked.lines.events)
	s.framer = &framer{
		cfg: s.cfg, source: []byte(s.cfg.Source), ids: ids, lines: parked.lines, pins: &s.r.pins,
		partitions: s.topics.partitions, highest: s.topics.highestSeq,
		limit: s.topics.limits.record, span: s.topics.limits.span, now: time.Now,
	}
	if d, ok := s.producer.(*direct); ok {
		s.framer.encoder = d.newEncoder()
	}
	if cur.Intent != nil {
		s.framer.repeat = &repeat{landed: parked.where, broken: newLines()}
	}
	return parked.earlier, nil
}

// abort ends what a session that failed may have left open.
func (s *session) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	s.producer.abort(ctx)
}

// close lets go of everything; it may be called on a session that did not start.
func (s *session) close() {
	if s.requests != nil {
		s.requests.close()
	}
	if s.clerk != nil {
		s.clerk.close()
		s.contents.close()
	}
	if s.producer != nil {
		s.producer.close()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.pages != nil {
		s.pages.drop()
	}
	if s.conn != nil {
		closeConn(s.conn)
	}
}
