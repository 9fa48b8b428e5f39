package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// Errors of ReAnchor that say that it did nothing.
var (
	// ErrNothingToAnchor says that the database is the one the cursor was taken from.
	ErrNothingToAnchor = errors.New("the database is the one the cursor was taken from: there is nothing to re-anchor")
	// ErrRelayAtWork says that a relay, or another re-anchoring, holds the outbox's lock.
	ErrRelayAtWork = errors.New("a relay leads this outbox, or it is being re-anchored already: stop it first")
	// ErrDeclined says that Confirm did not agree.
	ErrDeclined = errors.New("nothing was changed")
)

// ReAnchorOptions say how ReAnchor goes about it.
type ReAnchorOptions struct {
	// DryRun reports and changes nothing, neither in Postgres nor in Kafka.
	DryRun bool
	// Force goes on although the database looks like the one the cursor was taken from.
	Force bool
	// Since has everything listed as lost that occurred from then on and is not in the table. Zero: what was published
	// after the first event that the table still holds; what retention took cannot be told from what was lost.
	Since time.Time
	// Lost is called for each event that is in Kafka while the database does not hold its commit; nil for none.
	Lost func(LostEvent) error
	// Confirm is called after the last call of Lost and before anything is changed, not in a dry run; false ends it. nil
	// agrees.
	Confirm func(Anchorage) (bool, error)
	// BatchRows is how many rows are looked at, and updated at most, in one transaction. Default store.DefaultAnchorBatch.
	BatchRows int
	// Progress is told how far each step has come; nil for none.
	Progress func(Progressed)
}

// Progressed is how far a step of re-anchoring has come.
type Progressed struct {
	// Step names it: one of the Step constants.
	Step string
	// Done of Total: records, or row ids. Both are zero at the begin of a step that cannot be measured.
	Done, Total int64
}

// The steps of re-anchoring, in their order. After StepConfirmed things are changed.
const (
	StepRead       = "read the topics"
	StepCompare    = "compare the table with the topics"
	StepConfirmed  = "mark the cursor"
	StepPublished  = "restamp published rows"
	StepJudged     = "mark the cursor again"
	StepSequence   = "draw the ids of lost events"
	StepUnpublish  = "restamp unpublished rows"
	StepCursor     = "write the new cursor"
	StepReanchored = "done"
)

// LostEvent is an event in Kafka whose commit the database does not hold.
type LostEvent struct {
	// Topic, Partition and Offset say where its record is. A parked event is on the parked topic and meant for For.
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	For       string `json:"for,omitempty"`
	// Key is the record's key as text; bytes that are no UTF-8 are replaced.
	Key     string    `json:"key"`
	EventID uuid.UUID `json:"event_id"`
	// Seq is its millrace-seq; 0 for a parked one.
	Seq        int64     `json:"seq,omitempty"`
	OccurredAt time.Time `json:"occurred_at"`
	Parked     bool      `json:"parked,omitempty"`
}

// Anchorage is what was found, and what was done about it.
type Anchorage struct {
	Outbox string `json:"outbox"`
	DryRun bool   `json:"dry_run"`
	// Reason is why a relay would not go on; empty if it would.
	Reason string `json:"reason"`
	// Resumed says that an earlier attempt had been cut off.
	Resumed bool `json:"resumed,omitempty"`
	// Rows are those the table holds. Published are found in Kafka; Assumed are not, but their topic has forgotten events of
	// their age, and the old cursor says they were published. Unpublished ones will be published now.
	Rows        int64 `json:"rows"`
	Published   int64 `json:"published"`
	Assumed     int64 `json:"assumed"`
	Unpublished int64 `json:"unpublished"`
	// Records is how many were read; those from ReadFrom on.
	Records  int64     `json:"records"`
	ReadFrom time.Time `json:"read_from,omitzero"`
	// Foreign counts records there that no relay of this outbox wrote: they are not looked for in the table.
	Foreign int64 `json:"foreign"`
	// LostEvents counts the calls of Lost. Comparable is false if nothing in the table says from where on to compare.
	LostEvents int64 `json:"lost_events"`
	Comparable bool  `json:"comparable"`
	// SequenceBehind is how many ids up to the highest one published had not been drawn.
	SequenceBehind int64 `json:"sequence_behind"`
	// Restamped counts the rows updated. T and Seq are the new cursor's. All zero in a dry run.
	Restamped int64 `json:"restamped"`
	T         int64 `json:"t,omitempty"`
	Seq       int64 `json:"seq,omitempty"`
}

// reanchoring is one run of ReAnchor.
type reanchoring struct {
	r    *Relay
	cfg  Config
	opts ReAnchorOptions
	out  Anchorage

	leader   *store.Leader
	reader   *store.Reader // checks, then closed
	conn     *pgx.Conn     // the anchor's
	anchor   *store.Anchor
	client   *kgo.Client
	topics   *topics
	producer delivery // nil in a dry run
	shut     *session // what shut other relays out; nil in a dry run

	place   place
	first   store.First
	started bool
	source  store.Source
	cursor  *cursor
	found   store.Comparison
	// maxSeq and maxRow are the highest version and row id that are known to have been given.
	maxSeq, maxRow int64
}

// ReAnchor ties an outbox to its database after that was restored from a dump or an older copy of its volume, or failed
// over to a standby that lacked the last commits. Events that the table retains are published from there on if the topics do
// not hold them, and never if they do; events in the topics whose commit the database does not hold are listed. No relay
// may lead meanwhile. It can be cut off at any point and run again:
//
//	the relay's lock is taken, and both transactional ids: no relay commits from here on
//	the topics are read, and held against the table by event id
//	cursor: "anchoring"             a relay that starts now stops
//	published rows that would come up as new are restamped
//	cursor: "anchoring, judged"     the old cursor is not asked about rows any more
//	the ids of lost events are drawn
//	a snapshot is taken             the new `last`
//	unpublished rows are restamped  with xids that the snapshot has not seen
//	cursor: the snapshot            a relay goes on
func ReAnchor(ctx context.Context, cfg Config, opts ReAnchorOptions) (Anchorage, error) {
	if cfg.Registry == nil {
		cfg.Registry = noRegistry{} // nothing is registered
	}
	r, err := New(cfg)
	if err != nil {
		return Anchorage{}, err
	}
	if opts.Progress == nil {
		opts.Progress = func(Progressed) {}
	}
	a := &reanchoring{r: r, cfg: r.cfg, opts: opts, out: Anchorage{Outbox: cfg.Outbox, DryRun: opts.DryRun}}
	err = a.run(ctx)
	return a.out, wrap(err, "re-anchor outbox "+cfg.Outbox)
}

func (a *reanchoring) run(ctx context.Context) error {
	lead, err := a.lead(ctx)
	if err != nil {
		return err
	}
	defer lead.end()
	defer a.close()
	a.r.holds = lead.holds
	ctx = lead.ctx
	err = a.work(ctx)
	if lost := context.Cause(ctx); err != nil && lost != nil {
		return fmt.Errorf("%w (%w)", err, lost)
	}
	return err
}

// lingering is how long the lock of a relay that has just ended is waited for: Postgres ends a session some time after its client.
const lingering = 3 * time.Second

// lead takes the relay's lock for as long as the command runs.
func (a *reanchoring) lead(ctx context.Context) (*leadership, error) {
	var conn *pgx.Conn
	for began := time.Now(); ; {
		asked := time.Now()
		leader, err := a.r.tryLead(ctx, &conn)
		if err != nil {
			return nil, err
		}
		if leader != nil {
			a.leader = leader
			return holdLead(ctx, conn, leader, asked), nil
		}
		if time.Since(began) > lingering {
			closeConn(conn)
			return nil, ErrRelayAtWork
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			closeConn(conn)
			return nil, err
		}
	}
}

func (a *reanchoring) work(ctx context.Context) error {
	if err := a.look(ctx); err != nil {
		return err
	}
	a.opts.Progress(Progressed{Step: StepCompare})
	if err := a.compare(ctx); err != nil || a.opts.DryRun {
		return err
	}
	if a.opts.Confirm != nil {
		yes, err := a.opts.Confirm(a.out)
		if err != nil {
			return err
		}
		if !yes {
			return ErrDeclined
		}
	}
	return a.change(ctx)
}

// look finds out what there is: database, cursor, and what the topics hold.
func (a *reanchoring) look(ctx context.Context) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := a.openPostgres(starting); err != nil {
		return err
	}
	if err := a.openKafka(starting); err != nil {
		return err
	}
	if err := a.loadCursor(starting); err != nil {
		return err
	}
	if err := a.checkNeeded(starting); err != nil {
		return err
	}
	if err := a.topics.checkPublished(starting, a.cursor.Partitions); err != nil {
		return err
	}
	if err := a.openAnchor(starting); err != nil {
		return err
	}
	return a.readTopics(ctx)
}

func (a *reanchoring) openPostgres(ctx context.Context) error {
	s := &session{r: a.r, cfg: a.cfg}
	reader, err := s.openPostgres(ctx)
	a.conn = s.conn
	if err != nil {
		return err
	}
	a.reader = reader
	if a.first, a.started, err = store.Started(ctx, a.conn, a.cfg.Schema); err != nil {
		return err
	}
	a.source, err = reader.Source(ctx)
	return wrap(err, "ask Postgres about itself")
}

// openKafka asks for the topics that a started outbox has: where there is no cursor there is nothing to tie to.
func (a *reanchoring) openKafka(ctx context.Context) error {
	var err error
	if a.client, err = newClient(a.cfg.Kafka); err != nil {
		return err
	}
	a.topics = &topics{cfg: a.cfg, client: a.client, admin: kadm.NewClient(a.client), limits: newLimits(a.cfg, a.r.refused)}
	if a.place, err = a.topics.ensureInternals(ctx, true); err != nil || a.opts.DryRun {
		return err
	}
	a.shut = &session{r: a.r, cfg: a.cfg, conn: a.conn, client: a.client, topics: a.topics}
	err = a.shut.openDelivery(ctx)
	if a.producer = a.shut.producer; err != nil {
		return err
	}
	return a.shut.endHanging(ctx)
}

func (a *reanchoring) loadCursor(ctx context.Context) error {
	name := cursorTopic(a.cfg.Outbox)
	logs, err := openLogs(ctx, a.client, settledEnds, name)
	if err != nil {
		return err
	}
	value, err := logs[name][cursorPartition].newestCursor(ctx)
	if err != nil {
		return err
	}
	if value == nil {
		return stopf("start a relay: it says what is wrong, if anything is", "%w: topic %s holds none, so there is nothing to re-anchor", ErrCursorMissing, name)
	}
	if a.started {
		here := store.First{ClusterID: a.place.cluster, CursorTopicID: a.place.topicID}
		if err := (&session{cfg: a.cfg}).checkPlace(a.first, here, true, true); err != nil {
			return err
		}
	}
	if a.cursor, err = decodeCursor(value); err != nil || a.opts.DryRun {
		return err
	}
	return a.shut.own(ctx, logs[name][cursorPartition], a.cursor)
}

// checkNeeded says why a relay would not go on; ErrNothingToAnchor if it would.
func (a *reanchoring) checkNeeded(ctx context.Context) error {
	a.out.Resumed = a.cursor.Anchoring != nil
	why := store.Check(a.cursor.Source, a.source)
	if why == nil {
		why = a.cursor.verify(ctx, a.reader)
	}
	switch {
	case why != nil && !store.NeedsOperator(why):
		return why
	case why != nil:
		var source *store.SourceError
		errors.As(why, &source)
		a.out.Reason = source.Err.Error() + ": " + source.Detail
	case a.out.Resumed:
		a.out.Reason = ErrAnchoring.Error()
	case !a.started:
		a.out.Reason = "the database was restored to before the relay's first start"
	case !a.opts.Force:
		return ErrNothingToAnchor
	}
	return nil
}

func (a *reanchoring) openAnchor(ctx context.Context) error {
	closeConn(a.conn) // its plans are those of polls
	var err error
	if a.conn, err = a.r.connect(ctx, "re-anchor"); err != nil {
		return err
	}
	c := a.cursor
	v := store.Verdict{Last: c.Last, Upper: c.Upper, Position: c.Position, Before: c.Time}
	if m := c.Anchoring; m != nil {
		v.Given = m.Judged && store.Check(m.Source, a.source) == nil
	}
	a.anchor, err = store.NewAnchor(ctx, a.conn, a.cfg.Schema, a.leader, v, a.opts.BatchRows)
	return err
}

func (a *reanchoring) close() {
	if a.producer != nil {
		a.producer.close()
	}
	if a.client != nil {
		a.client.Close()
	}
	if a.conn != nil {
		closeConn(a.conn)
	}
}
