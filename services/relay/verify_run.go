package relay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// partitionAt names a partition.
type partitionAt struct {
	topic     string
	partition int32
}

// verification is one run. Rows are subtracted from what the records add up to, by a hash of the event's id: where both are the same
// nothing is left, and nothing of an event need be held. Only where something is left is all read again, and looked at one by one.
//
// Both are cut at the cursor C, which is read after the parked topic's end and before its contents, and before the topics' ends:
//
//	a row that C counts      is in its topic with a version up to C's, or is parked, or was discarded
//	a record above C's seq   is of later, and left out
//	an event that was parked, released or discarded behind the parked topic's first end is left out on both sides
type verification struct {
	cfg   Config
	opts  VerifyOptions
	began time.Time
	told  time.Time
	out   *Verified

	conn   *pgx.Conn
	client *kgo.Client
	cursor *cursor
	held   parkedStates
	ring   store.Ring
	last   int64 // the highest retained id
	begins map[partitionAt]int64
	// horizons are the times, in ms, below which nothing is compared of a partition: its log has forgotten some.
	horizons map[partitionAt]int64
	compacts map[string]bool
	// entered is when the leaf of the floor was entered, in ms: earlier records are of rows that have left, or of another outbox.
	entered int64
	// edge is the time, in ms, below which a record may be of a row that has left; edged are the retained rows from before it.
	edge  int64
	edged map[uuid.UUID]bool
	// earliest is when the first compared row occurred, in ms.
	earliest int64
	counts   map[partitionAt]*VerifiedPartition

	classes *schemaClasses
	codecs  map[[16]byte]*codecOf
	sums    *sums
	order   *orderSums
	dig     *dig // nil in the first reading
	total   int64
	done    int64
}

func newVerification(cfg Config, opts VerifyOptions) *verification {
	v := &verification{
		cfg: cfg, opts: opts, began: time.Now(), earliest: math.MaxInt64, edge: math.MinInt64, edged: map[uuid.UUID]bool{},
		horizons: map[partitionAt]int64{}, compacts: map[string]bool{}, begins: map[partitionAt]int64{}, counts: map[partitionAt]*VerifiedPartition{},
		codecs: map[[16]byte]*codecOf{},
	}
	v.out = &Verified{Outbox: cfg.Outbox, At: v.began.UTC(), Sample: opts.Sample, Kinds: map[Difference]int64{}, Partitions: []VerifiedPartition{}}
	v.sums = newSums()
	return v
}

func (v *verification) close() {
	if v.client != nil {
		v.client.Close()
	}
	if v.conn != nil {
		closeConn(v.conn)
	}
}

func (v *verification) all(ctx context.Context) error {
	if err := v.open(ctx); err != nil || v.cursor == nil {
		return err
	}
	if err := v.read(ctx); err != nil {
		return err
	}
	if dirty := v.sums.dirty(); len(dirty) > 0 {
		v.dig = newDig(v, dirty)
		if err := v.read(ctx); err != nil {
			return err
		}
		v.dig.judge()
	}
	if err := v.judgeOrder(ctx); err != nil {
		return err
	}
	v.finish()
	return nil
}

// finish sorts what was found.
func (v *verification) finish() {
	for _, p := range v.counts {
		v.out.Rows, v.out.Records = v.out.Rows+p.Rows, v.out.Records+p.Records
		v.out.Partitions = append(v.out.Partitions, *p)
	}
	slices.SortFunc(v.out.Partitions, func(a, b VerifiedPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortStableFunc(v.out.Events, func(a, b DifferentEvent) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Topic, b.Topic), a.Since.Compare(b.Since), cmp.Compare(a.Row, b.Row))
	})
	v.out.Took = time.Since(v.began)
}

// open takes the cut.
func (v *verification) open(ctx context.Context) (err error) {
	if v.client, err = newClient(v.cfg.Kafka); err != nil {
		return err
	}
	before, err := v.parkedEnd(ctx)
	if err != nil {
		return err
	}
	if v.cursor, err = committedCursor(ctx, v.client, v.cfg.Outbox); err != nil {
		return err
	}
	if v.cursor == nil {
		v.note("nothing was published yet: there is nothing to compare")
		return nil
	}
	if v.cursor.Anchoring != nil {
		return fmt.Errorf("the outbox is being re-anchored: wait until millrace relay re-anchor has ended")
	}
	v.out.Seq, v.out.T = v.cursor.Seq, v.cursor.T
	if err := v.readHeld(ctx, before); err != nil {
		return err
	}
	if v.conn, err = pgx.Connect(ctx, v.cfg.Postgres); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	if _, err := v.conn.Exec(ctx, `set default_transaction_read_only = on`); err != nil {
		return fmt.Errorf("make the session read-only: %w", err)
	}
	return v.openOutbox(ctx)
}

func (v *verification) openOutbox(ctx context.Context) (err error) {
	if v.ring, err = store.ReadRing(ctx, v.conn, v.cfg.Schema); err != nil {
		return err
	}
	v.out.Floor = v.ring.Floor
	entered := v.ring.Leaves[store.LeafOf(v.ring.Floor)].Entered
	if v.entered = math.MinInt64; !entered.IsZero() {
		v.entered = entered.UnixMilli()
	}
	if v.ring.Floor > 0 {
		// Rows below the floor were written before the sequence entered the leaf of the floor.
		if v.edge = v.entered; entered.IsZero() {
			v.edge = v.ring.Now.UnixMilli()
		}
	}
	if v.last, err = store.LastRetained(ctx, v.conn, v.cfg.Schema); err != nil {
		return err
	}
	rows, err := store.CountRetained(ctx, v.conn, v.cfg.Schema, v.ring.Floor, v.last)
	if err != nil {
		return err
	}
	v.order = newOrderSums(rows/int64(v.opts.Sample), v.opts.Turn)
	v.out.OrderSample = v.order.sample
	v.total = rows
	if v.classes, err = v.readClasses(ctx); err != nil {
		return err
	}
	return v.topicsBegin(ctx)
}

// topics are those that were published to.
func (v *verification) topics() []string { return slices.Sorted(maps.Keys(v.cursor.Partitions)) }

// topicsBegin finds out which partitions have forgotten records, and of which time.
func (v *verification) topicsBegin(ctx context.Context) error {
	names, admin := v.topics(), kadm.NewClient(v.client)
	if len(names) == 0 {
		return nil
	}
	starts, err := v.starts(ctx, names)
	if err != nil {
		return err
	}
	first, err := admin.ListOffsetsAfterMilli(ctx, 0, names...)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		return wrap(err, fmt.Sprintf("list the first records of %v", names))
	}
	if described, err := admin.DescribeTopicConfigs(ctx, names...); err == nil { // without the right to read configs nothing can be said
		for _, name := range names {
			if compacts(described, name) {
				v.compacts[name] = true
				v.note("%s is compacted and was not compared: what it has forgotten cannot be told from what it never had", name)
			}
		}
	}
	starts.Each(func(o kadm.ListedOffset) {
		at := partitionAt{o.Topic, o.Partition}
		if v.begins[at] = o.Offset; o.Offset == 0 {
			return
		}
		v.horizons[at] = math.MaxInt64 // nothing is left
		if f, ok := first.Lookup(o.Topic, o.Partition); ok && f.Timestamp > 0 {
			v.horizons[at] = f.Timestamp + horizonSlack.Milliseconds()
		}
	})
	return nil
}

func (v *verification) starts(ctx context.Context, names []string) (kadm.ListedOffsets, error) {
	starts, err := kadm.NewClient(v.client).ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	return starts, wrap(err, fmt.Sprintf("list the first offsets of %v", names))
}

// read reads both sides, and makes sure that nothing of them has gone meanwhile.
func (v *verification) read(ctx context.Context) error {
	if err := v.readRows(ctx); err != nil {
		return err
	}
	if err := v.readTopics(ctx); err != nil {
		return err
	}
	ring, err := store.ReadRing(ctx, v.conn, v.cfg.Schema)
	if err != nil {
		return err
	}
	if ring.Floor != v.ring.Floor {
		return fmt.Errorf("%w: rows up to %d were retained out", ErrMoved, ring.Floor-1)
	}
	starts, err := v.starts(ctx, v.topics())
	if err != nil {
		return err
	}
	starts.Each(func(o kadm.ListedOffset) {
		if o.Offset != v.begins[partitionAt{o.Topic, o.Partition}] {
			err = fmt.Errorf("%w: %s, partition %d, begins at offset %d now", ErrMoved, o.Topic, o.Partition, o.Offset)
		}
	})
	return err
}

// verifyTellEvery is how often Progress is told.
const verifyTellEvery = 250 * time.Millisecond

func (v *verification) tell(phase string, done int64) {
	if v.opts.Progress != nil && time.Since(v.told) >= verifyTellEvery {
		v.told = time.Now()
		v.opts.Progress(Verifying{Phase: phase, Done: v.done + done, Total: max(v.total, v.done+done)})
	}
}

func (v *verification) note(format string, args ...any) {
	v.out.Notes = append(v.out.Notes, fmt.Sprintf(format, args...))
}

// differs counts a difference and names it if there is room.
func (v *verification) differs(d DifferentEvent) {
	v.out.Differences++
	if v.out.Kinds[d.Kind]++; v.out.Kinds[d.Kind] <= int64(v.opts.Examples) {
		v.out.Events = append(v.out.Events, d)
	}
}

// count returns the counts of a partition.
func (v *verification) count(at partitionAt) *VerifiedPartition {
	p := v.counts[at]
	if p == nil {
		p = &VerifiedPartition{Topic: at.topic, Partition: at.partition}
		v.counts[at] = p
	}
	return p
}

// sampled says whether a key is looked at.
func (v *verification) sampled(key []byte) bool {
	return v.opts.Sample <= 1 || stableHash(key)%v.opts.Sample == v.opts.Turn%v.opts.Sample
}

// stableHash is the same in every process, so that turns go round.
func stableHash(key []byte) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h ^ h>>32
}
