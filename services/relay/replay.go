package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// HeaderReplayed marks a record that Replay wrote: the time of the replay, RFC 3339. Such a record has no millrace-seq, for the table
// does not hold it.
const HeaderReplayed = "millrace-replayed"

const (
	// replayStretch is how many rows are looked at between two looks at what is still retained, replayPage how many of them are
	// held at once, replayBytes how large these may be.
	replayStretch = 20_000
	replayPage    = 1000
	replayBytes   = 8 << 20
	// maxUnsent is how many events that could not be sent are described; all are counted.
	maxUnsent = 100
	// leafSlack is how much later than its leaf was left a row may have been dated.
	leafSlack = time.Hour
)

// ErrReplayTopic is what Replay returns for a topic that it must not write to.
var ErrReplayTopic = errors.New("events cannot be replayed into this topic")

// ReplayOptions say what is replayed, and where to.
type ReplayOptions struct {
	// FromID or From, a time of occurrence, is where to begin; both is for one that goes on: at FromID, with those events only that
	// occurred at From or later. Both zero: at the first row that is retained.
	FromID int64
	From   time.Time
	// UntilID (inclusive) or Until (exclusive) is where to end. Both zero: at the last row published when the replay begins.
	UntilID int64
	Until   time.Time
	// Key and Type select; empty for all.
	Key, Type string
	// To is the topic: none of an outbox, and not internal. It is made if it does not exist. Required.
	To string
	// Rate bounds the events a second; 0 for no bound.
	Rate int
	// DryRun counts, and writes nothing.
	DryRun bool
	// Progress is told after each page; nil for nobody.
	Progress func(Replaying)
}

// Replaying is how far a replay is.
type Replaying struct {
	// ID is the next row to be looked at; Looked of Total rows were.
	ID, Looked, Total int64
	// Sent events were replayed, or would be.
	Sent int64
	// Rate is events a second since the beginning.
	Rate float64
}

// Replayed is what a replay did.
type Replayed struct {
	Outbox string `json:"outbox"`
	To     string `json:"to"`
	DryRun bool   `json:"dry_run,omitempty"`
	// At is the value of HeaderReplayed.
	At time.Time `json:"at"`
	// Looked rows were looked at, Sent events written (with DryRun: would be), all of them acknowledged.
	Looked int64 `json:"looked"`
	Sent   int64 `json:"sent"`
	// Done says that the end was reached. If not, go on with FromID Next and all else as it was: what was sent from Next on may be sent
	// again then.
	Done bool  `json:"done"`
	Next int64 `json:"next,omitempty"`
	// Gone are rows that retention has taken, before or meanwhile.
	Gone []GoneRows `json:"gone,omitempty"`
	// Parked counts events that were left out because they are parked. Unsent events could not be framed: the first
	// hundred, and how many in all.
	Parked  int64         `json:"parked,omitempty"`
	Unsent  []UnsentEvent `json:"unsent,omitempty"`
	Unfit   int64         `json:"unfit,omitempty"`
	Seconds float64       `json:"seconds"`
}

// GoneRows is a range of ids, both inclusive, whose rows are not in the table any more. Those that went while they were being read
// may have been replayed, or some of them.
type GoneRows struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// UnsentEvent is an event that could not be framed, and why.
type UnsentEvent struct {
	ID      int64  `json:"id"`
	EventID string `json:"event_id"`
	Reason  string `json:"reason"`
}

// Replay writes retained events once more, in the order of their ids, into a topic that is not one of the outbox's own. Only what was
// published is replayed; what is parked is not. It needs no relay and disturbs none. After an error, or when ctx has ended, the answer
// says where to go on.
func Replay(ctx context.Context, cfg Config, opts ReplayOptions) (Replayed, error) {
	cfg = cfg.WithDefaults()
	if opts.Progress == nil {
		opts.Progress = func(Replaying) {}
	}
	r := &replay{cfg: cfg, opts: opts, began: time.Now()}
	r.out = Replayed{Outbox: cfg.Outbox, To: opts.To, DryRun: opts.DryRun, At: r.began.UTC().Truncate(time.Second)}
	if err := replayable(cfg, opts.To); err != nil {
		return r.out, err
	}
	defer r.close()
	err := r.open(ctx)
	if err == nil {
		err = r.run(ctx)
	}
	r.out.Seconds = time.Since(r.began).Seconds()
	return r.out, err
}

// replayable refuses what the configuration says is an outbox's own topic, or nobody's.
func replayable(cfg Config, to string) error {
	if why := topicNameFault(to); why != "" {
		return fmt.Errorf("%w: %s: %s", ErrReplayTopic, shorten(to), why)
	}
	if _, ours := cfg.Topics[to]; ours {
		return fmt.Errorf("%w: %s is a topic of outbox %s: its readers would see events twice", ErrReplayTopic, to, cfg.Outbox)
	}
	return nil
}

// replay is one run.
type replay struct {
	cfg   Config
	opts  ReplayOptions
	began time.Time
	out   Replayed

	conn       *pgx.Conn
	client     *kgo.Client
	framer     *framer
	partitions int32
	selected   store.Selected
	parked     map[[16]byte]bool
	end        int64 // the last id
	total      int64
}

func (r *replay) close() {
	if r.client != nil {
		r.client.Close()
	}
	if r.conn != nil {
		closeConn(r.conn)
	}
}

// open finds out what was published, and makes ready to write.
func (r *replay) open(ctx context.Context) error {
	var err error
	if r.client, err = newClient(r.cfg.Kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()), kgo.ProducerLinger(0)); err != nil {
		return err
	}
	cur, err := committedCursor(ctx, r.client, r.cfg.Outbox)
	if err != nil {
		return err
	}
	if cur == nil {
		return fmt.Errorf("%w: outbox %s has published nothing yet", ErrCursorMissing, r.cfg.Outbox)
	}
	if _, ours := cur.Partitions[r.opts.To]; ours {
		return fmt.Errorf("%w: outbox %s has published to %s: its readers would see events twice", ErrReplayTopic, r.cfg.Outbox, r.opts.To)
	}
	r.selected = store.Selected{Key: r.opts.Key, Type: r.opts.Type, From: r.opts.From, Until: r.opts.Until,
		Published: store.PublishedRows{Last: cur.Last, Upper: cur.Upper, Position: cur.Position}}
	parked, err := OpenParked(ctx, r.cfg.Kafka, r.cfg.Outbox, Selection{All: true}, nil)
	if err != nil {
		return err
	}
	defer parked.Close()
	r.parked = make(map[[16]byte]bool, parked.Len())
	for _, id := range parked.IDs() {
		r.parked[id] = true
	}
	if r.conn, err = pgx.Connect(ctx, r.cfg.Postgres); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return r.openFramer(ctx)
}

func (r *replay) openFramer(ctx context.Context) error {
	t := &topics{cfg: r.cfg, client: r.client, admin: kadm.NewClient(r.client), limits: newLimits(r.cfg, map[string]int{})}
	var err error
	if !r.opts.DryRun {
		if r.partitions, err = t.partitions(ctx, r.opts.To); err != nil {
			return err
		}
	}
	ids := &schemaIDs{
		registry: r.cfg.Registry, subjects: r.cfg.Subjects, missing: func(err error) bool { return errors.Is(err, store.ErrNoSchema) },
		lookup: func(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error) {
			text, err := store.ReadSchema(ctx, r.conn, r.cfg.Schema, fp)
			if err != nil {
				return nil, err
			}
			return schemas.Parse(text)
		},
		away: func(error) {}, retry: backoff{min: r.cfg.RetryMin, max: r.cfg.RetryMax}, grace: r.cfg.RegistryGrace, now: time.Now,
		cache: map[schemaKey]*resolved{}, known: map[string]int{},
	}
	logs, err := openLogs(ctx, r.client, committedEnds, cursorTopic(r.cfg.Outbox))
	if err != nil {
		return err
	}
	log := logs[cursorTopic(r.cfg.Outbox)][idPartition]
	if err := log.scan(ctx, log.start, func(rec *kgo.Record) bool { ids.load(rec.Value); return true }); err != nil {
		return err
	}
	r.framer = &framer{cfg: r.cfg, source: []byte(r.cfg.Source), ids: ids, limit: t.limits.record, now: time.Now}
	return nil
}

// run goes through the rows a stretch at a time. A stretch is a few short statements, so that no leaf is held; what retention took
// meanwhile is seen by the ring's floor afterwards.
func (r *replay) run(ctx context.Context) error {
	ring, err := store.ReadRing(ctx, r.conn, r.cfg.Schema)
	if err != nil {
		return err
	}
	if r.end, err = store.LastRetained(ctx, r.conn, r.cfg.Schema); err != nil {
		return err
	}
	if r.opts.UntilID > 0 {
		r.end = min(r.end, r.opts.UntilID)
	}
	r.out.Next = r.first(&ring)
	if r.total, err = store.CountRetained(ctx, r.conn, r.cfg.Schema, r.out.Next, r.end); err != nil {
		return err
	}
	for r.out.Next <= r.end {
		if err := r.stretch(ctx); err != nil {
			return err
		}
	}
	r.out.Done, r.out.Next = true, 0
	return nil
}

// first is the id to begin at, and tells what is gone before it.
func (r *replay) first(ring *store.Ring) int64 {
	from := max(r.opts.FromID, 1)
	if r.opts.From.IsZero() {
		if r.opts.FromID > 0 {
			r.lost(from, ring.Floor)
		}
		return max(from, ring.Floor)
	}
	asked := from
	from = max(from, ring.Floor)
	for n := store.LeafCount - 1; n > 0; n-- {
		leaf := &ring.Leaves[ring.Before(n)]
		if leaf.Emptied.IsZero() || leaf.Left.Before(r.opts.From) {
			continue
		}
		// Emptied since, and left after the time asked for: its rows are among those asked for.
		generation := ring.Generation - int64(n)
		r.lost(max(generation<<32, asked), (generation+1)<<32)
	}
	for n := store.LeafCount - 1; n > 0; n-- {
		leaf, generation := &ring.Leaves[ring.Before(n)], ring.Generation-int64(n)
		if !leaf.Left.IsZero() && leaf.Left.Before(r.opts.From.Add(-leafSlack)) {
			from = max(from, (generation+1)<<32)
		}
	}
	return from
}

// lost notes that rows from one id up to another, exclusive, are gone.
func (r *replay) lost(from, floor int64) {
	if from >= floor {
		return
	}
	if n := len(r.out.Gone); n > 0 && r.out.Gone[n-1].To+1 >= from {
		r.out.Gone[n-1].To = max(r.out.Gone[n-1].To, floor-1)
		return
	}
	r.out.Gone = append(r.out.Gone, GoneRows{From: from, To: floor - 1})
}

// stretch replays the next rows and looks whether all of them were still there.
func (r *replay) stretch(ctx context.Context) error {
	asked := r.out.Next
	end, rows, err := store.Stretch(ctx, r.conn, r.cfg.Schema, asked, r.end, replayStretch)
	if err != nil {
		return err
	}
	for r.out.Next <= end {
		page, more, err := store.ReadRetained(ctx, r.conn, r.cfg.Schema, r.selected, r.out.Next, end, r.pageRows(), replayBytes)
		if err != nil {
			return err
		}
		if err := r.page(ctx, page.Events); err != nil {
			return err
		}
		next := end + 1
		if last, some := page.LastID(); some && more {
			next = last + 1
		}
		page.Release()
		r.out.Next = next
		r.progress()
		if err := r.pace(ctx); err != nil {
			return err
		}
	}
	r.out.Looked += rows
	r.progress()
	ring, err := store.ReadRing(ctx, r.conn, r.cfg.Schema)
	if err != nil {
		return err
	}
	r.lost(asked, min(ring.Floor, r.end+1))
	r.out.Next = max(r.out.Next, ring.Floor)
	return nil
}

func (r *replay) pageRows() int {
	if r.opts.Rate > 0 {
		return min(replayPage, r.opts.Rate)
	}
	return replayPage
}

func (r *replay) progress() {
	r.opts.Progress(Replaying{ID: r.out.Next, Looked: min(r.out.Looked, r.total), Total: r.total, Sent: r.out.Sent,
		Rate: float64(r.out.Sent) / max(time.Since(r.began).Seconds(), 0.001)})
}

// pace waits until what was sent is due.
func (r *replay) pace(ctx context.Context) error {
	if r.opts.Rate <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, time.Until(r.began.Add(time.Duration(float64(r.out.Sent)/float64(r.opts.Rate)*float64(time.Second)))))
}

// page writes events and returns when all are acknowledged.
func (r *replay) page(ctx context.Context, events []store.Event) error {
	b := newBatch(len(events))
	for i := range events {
		e := &events[i]
		if r.parked[e.EventID] {
			r.out.Parked++
			continue
		}
		wrong, err := r.frame(ctx, b, e)
		if err != nil {
			return err
		}
		if wrong != nil {
			r.unfit(e, wrong)
		}
	}
	if !r.opts.DryRun && len(b.records) > 0 {
		if err := r.send(ctx, b.records); err != nil {
			return fmt.Errorf("write to %s: %w", r.opts.To, err)
		}
	}
	r.out.Sent += int64(len(b.records))
	return nil
}

// send returns when all records are acknowledged. The client's own bound (RecordDeliveryTimeout) would count from the records' time,
// which is when the events occurred: none that is older could be sent.
func (r *replay) send(ctx context.Context, records []*kgo.Record) error {
	limit, cancel := context.WithTimeout(ctx, r.cfg.PublishTimeout)
	defer cancel()
	acks := newAcks(len(records))
	for _, rec := range records {
		r.client.Produce(limit, rec, acks.done)
	}
	err := acks.wait(limit)
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the brokers did not acknowledge within %v: millrace doctor may know why", r.cfg.PublishTimeout)
	}
	return err
}

// frame makes the record of an event. The schema id is that of the event's own topic: no subject is made for a replay.
func (r *replay) frame(ctx context.Context, b *batch, e *store.Event) (*fault, error) {
	writer, wrong := parseHeaders(e.Headers)
	if wrong != nil {
		return wrong, nil
	}
	schema, wrong, err := r.framer.ids.resolve(ctx, e.Fingerprint, e.Topic)
	if err != nil {
		return nil, err
	}
	if wrong != nil {
		if wrong.reason == ReasonRegistry {
			return nil, fmt.Errorf("ask the registry for the id of a schema: %s", wrong.detail)
		}
		return wrong, nil
	}
	value, wrong := frameValue(b, e, schema)
	if wrong != nil {
		return wrong, nil
	}
	if size, most := recordSize(r.framer.source, e, value, writer), r.framer.limit(r.opts.To); size > most {
		return faultf(ReasonSize, "the record would have %d bytes, the topic takes at most %d", size, most), nil
	}
	rec := b.record()
	rec.Topic, rec.Value, rec.Key = r.opts.To, value, b.text(e.Key)
	if r.partitions > 0 {
		rec.Partition = partitionOf(rec.Key, r.partitions)
	}
	var exact bool
	to := target{span: span{after: maxAhead}, at: time.Now()}
	rec.Timestamp, exact = to.stamp(e.OccurredAt)
	rec.Headers = r.framer.appendHeaders(b, e, 0, writer, !exact)
	for i := range rec.Headers {
		if rec.Headers[i].Key == headerSeq {
			rec.Headers[i] = kgo.RecordHeader{Key: HeaderReplayed, Value: []byte(r.out.At.Format(time.RFC3339))}
		}
	}
	b.add(rec)
	return nil, nil
}

func (r *replay) unfit(e *store.Event, wrong *fault) {
	if r.out.Unfit++; len(r.out.Unsent) < maxUnsent {
		r.out.Unsent = append(r.out.Unsent, UnsentEvent{ID: e.ID, EventID: uuid.UUID(e.EventID).String(),
			Reason: fmt.Sprintf("%s: %s", wrong.reason, cmp.Or(wrong.detail, wrong.field))})
	}
}
