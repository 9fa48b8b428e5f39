package replay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/millrace/replay"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// rig is a topic with something in it, and the name of another to copy into.
type rig struct {
	t      *testing.T
	broker *harness.KafkaBroker
	cfg    replay.Config
	wrote  []*kgo.Record // committed, in the order of writing
}

func newRig(t *testing.T, partitions int) *rig {
	broker := harness.Kafka(t)
	topic := broker.NewTopic(t, partitions)
	into := harness.Unique("again")
	broker.DeleteAtEnd(t, into, "__millrace.replay."+into)
	return &rig{t: t, broker: broker, cfg: replay.Config{Kafka: []kgo.Opt{kgo.SeedBrokers(broker.Brokers...)}, Topic: topic, Into: into}}
}

// began is the time of the first record; each is a second after the one before.
var began = time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC)

// write writes n records of a few keys in one transaction, and ends it as told.
func (r *rig) write(n int, end kgo.TransactionEndTry) {
	r.t.Helper()
	cl := r.broker.Client(r.t, kgo.TransactionalID(harness.Unique("writer")), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err := cl.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range n {
		at := len(r.wrote) + i
		records = append(records, &kgo.Record{
			Topic: r.cfg.Topic, Key: fmt.Appendf(nil, "k%d", at%7), Value: strconv.AppendInt(nil, int64(at), 10),
			Timestamp: began.Add(time.Duration(at) * time.Second),
			Headers: []kgo.RecordHeader{{Key: "ce_type", Value: fmt.Appendf(nil, "t.Type%d", at%2)}, {Key: "millrace-seq", Value: strconv.AppendInt(nil, int64(at), 10)},
				{Key: "tenant", Value: []byte("blue")}},
		})
	}
	if err := cl.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	if err := cl.EndTransaction(r.t.Context(), end); err != nil {
		r.t.Fatal(err)
	}
	if end == kgo.TryCommit {
		r.wrote = append(r.wrote, records...)
	}
}

func (r *rig) run(cfg replay.Config) replay.Result {
	r.t.Helper()
	did, err := replay.Run(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return did
}

// copies returns what a reader of committed records finds in the target, by partition.
func (r *rig) copies() [][]*kgo.Record {
	r.t.Helper()
	cl := r.broker.Client(r.t)
	log, err := relay.OpenLog(r.t.Context(), cl, r.cfg.Into, true)
	if err != nil {
		r.t.Fatal(err)
	}
	all := make([][]*kgo.Record, log.Partitions())
	for p := range log.Partitions() {
		next, end := log.Extent(p)
		for next < end {
			var got []*kgo.Record
			if got, next, err = log.Read(r.t.Context(), p, next); err != nil {
				r.t.Fatal(err)
			}
			all[p] = append(all[p], got...)
		}
	}
	return all
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// equal holds the target against what was written: each record once, those of a key in order, in the partition of the key.
func (r *rig) equal(want []*kgo.Record) {
	r.t.Helper()
	byKey := map[string][]string{}
	n := 0
	for p, records := range r.copies() {
		for _, rec := range records {
			n++
			key := string(rec.Key)
			byKey[key] = append(byKey[key], string(rec.Value))
			if at := relay.Partition(rec.Key, int32(len(r.copies()))); at != int32(p) && rec.Key != nil {
				r.t.Errorf("key %s is in partition %d and not in %d", key, p, at)
			}
		}
	}
	wanted := map[string][]string{}
	for _, rec := range want {
		wanted[string(rec.Key)] = append(wanted[string(rec.Key)], string(rec.Value))
	}
	if n != len(want) {
		r.t.Errorf("%d records, want %d", n, len(want))
	}
	for key, values := range wanted {
		if !slices.Equal(byKey[key], values) {
			r.t.Errorf("key %s: %v\nwant %v", key, byKey[key], values)
		}
	}
}

// Committed records are copied, each once and in the order of its key; what a writer took back is not, nor what is written meanwhile.
func TestARangeIsCopiedAsItWasWhenItBegan(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.write(50, kgo.TryCommit)
	r.write(40, kgo.TryAbort)
	r.write(50, kgo.TryCommit)
	r.write(9, kgo.TryAbort) // the end of the log holds no record
	want := slices.Clone(r.wrote)
	r.broker.CreateTopic(t, r.cfg.Into, 5) // another number of partitions
	cfg := r.cfg
	cfg.Rate = 1000
	late := false
	cfg.Progress = func(int64, int64) {
		if !late {
			late = true
			r.write(20, kgo.TryCommit)
		}
	}
	did := r.run(cfg)
	if !did.Done || did.Sent != 100 || did.Looked != 100 || did.Resumed {
		t.Errorf("%+v", did)
	}
	r.equal(want)
	source := map[string]*kgo.Record{}
	for _, rec := range want {
		source[fmt.Sprintf("%d/%d", rec.Partition, rec.Offset)] = rec
	}
	for _, records := range r.copies() {
		for _, c := range records {
			from := source[header(c, replay.HeaderPartition)+"/"+header(c, replay.HeaderOffset)]
			if from == nil || string(from.Value) != string(c.Value) || header(c, replay.HeaderTopic) != r.cfg.Topic {
				t.Fatalf("%s: source %v", c.Value, c.Headers)
			}
			if header(c, "millrace-seq") != "" || header(c, replay.HeaderSeq) != string(c.Value) || header(c, "tenant") != "blue" ||
				header(c, relay.HeaderReplayed) != did.At.Format(time.RFC3339) || !c.Timestamp.Equal(from.Timestamp) {
				t.Fatalf("%s: %v %v", c.Value, c.Timestamp, c.Headers)
			}
		}
	}
}

// What is no event is copied as well: tombstones, and records without a key behind those that they stood behind.
func TestEveryRecordOfATopicIsCopied(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	cl := r.broker.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for i := range 6 {
		records = append(records, &kgo.Record{Topic: r.cfg.Topic, Partition: int32(i % 2), Value: strconv.AppendInt(nil, int64(i), 10)})
	}
	records = append(records, &kgo.Record{Topic: r.cfg.Topic, Partition: relay.Partition([]byte("k"), 2), Key: []byte("k")})
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if did := r.run(r.cfg); did.Sent != 7 || !did.Done {
		t.Errorf("%+v", did)
	}
	var empty int
	for p, got := range r.copies() {
		var values []string
		for _, c := range got {
			if c.Key == nil {
				values = append(values, string(c.Value))
			} else if c.Value == nil {
				empty++
			}
		}
		if want := []string{strconv.Itoa(p), strconv.Itoa(p + 2), strconv.Itoa(p + 4)}; !slices.Equal(values, want) {
			t.Errorf("partition %d: %v, want %v", p, values, want)
		}
	}
	if empty != 1 {
		t.Errorf("%d tombstones, want 1", empty)
	}
}

func TestWhatIsAskedForIsWhatIsCopied(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.write(30, kgo.TryCommit)
	cl := r.broker.Client(t)
	gone := kadm.Offsets{}
	gone.AddOffset(r.cfg.Topic, 0, 3, -1)
	for try := 0; ; try++ {
		if resp, err := kadm.NewClient(cl).DeleteRecords(t.Context(), gone); err == nil && resp.Error() == nil {
			break
		} else if try == 50 {
			t.Fatal(err, resp.Error())
		}
		time.Sleep(100 * time.Millisecond) // a topic that was just made
	}
	at := func(n int) string { return began.Add(time.Duration(n) * time.Second).Format(time.RFC3339) }
	for _, c := range []struct {
		since, until, key, kind string
		want                    int64
		gone                    int
	}{
		{"", "", "", "", 27, 0}, {"0", "", "", "", 27, 1}, {"3", "", "", "", 27, 0}, {"10", "12", "", "", 2, 0}, {"0:10", "0:12", "", "", 2, 0}, {"29", "", "", "", 1, 0},
		{"12", "10", "", "", 0, 0}, {"99", "", "", "", 0, 0}, {at(10), "", "", "", 20, 0}, {at(10), at(12), "", "", 2, 0}, {"", at(5), "", "", 2, 0},
		{at(99), "", "", "", 0, 0}, {"", "", "k3", "", 4, 0}, {"", "", "", "t.Type1", 14, 0}, {"", "", "k3", "t.Type1", 2, 0},
	} {
		cfg := r.cfg
		cfg.DryRun, cfg.Key, cfg.Type = true, c.key, c.kind
		cfg.Since, cfg.Until = bound(t, c.since), bound(t, c.until)
		if did := r.run(cfg); did.Sent != c.want || !did.Done || len(did.Gone) != c.gone {
			t.Errorf("since %q until %q key %q type %q: %+v, want %d", c.since, c.until, c.key, c.kind, did, c.want)
		}
	}
	meta, err := kadm.NewClient(cl).ListTopics(t.Context(), r.cfg.Into)
	if err != nil || meta[r.cfg.Into].Err == nil {
		t.Errorf("a dry run made the topic: %v %v", meta, err)
	}
	cfg := r.cfg
	cfg.Since = bound(t, "7:0")
	if _, err := replay.Run(t.Context(), cfg); err == nil {
		t.Error("a partition that is not there was accepted")
	}
}

func bound(t *testing.T, text string) replay.Bound {
	t.Helper()
	b, err := replay.ParseBound(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "0", "12", "0:1,3:4", "2026-01-31T10:00:00Z"} {
		if b := bound(t, text); b.String() != text {
			t.Errorf("%q is read as %q", text, b)
		}
	}
	for _, text := range []string{"yesterday", "-1", "1:", ":1", "1:2,", "1:2,1:3", "1:-2", "9999999999:1", "1.5"} {
		if b, err := replay.ParseBound(text); err == nil {
			t.Errorf("%q is read as %q", text, b)
		}
	}
}

// A run that is interrupted anywhere, again and again, ends with each record once: of what was there when the first one began.
func TestAnInterruptedRunIsGoneOnWith(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 3)
	r.write(200, kgo.TryCommit)
	want := slices.Clone(r.wrote)
	cfg := r.cfg
	cfg.Rate = 100 // 25 records a transaction
	resumed := 0
	for range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		pages := 1 + random.IntN(3)
		cfg.Progress = func(int64, int64) {
			if pages--; pages == 0 {
				if random.IntN(2) == 0 {
					cancel()
				} else {
					time.AfterFunc(time.Duration(random.IntN(300))*time.Millisecond, cancel)
				}
			}
		}
		did, err := replay.Run(ctx, cfg)
		cancel()
		if did.Resumed {
			resumed++
		}
		if err == nil {
			if did.Before+did.Sent != 200 {
				t.Errorf("%+v", did)
			}
			break
		}
		r.write(1, kgo.TryCommit)
	}
	if resumed == 0 {
		t.Error("no run went on with another")
	}
	r.equal(want)
	again := r.run(r.cfg) // finished and forgotten: it is a new one
	if again.Resumed || again.Sent != int64(len(r.wrote)) {
		t.Errorf("%+v, want %d", again, len(r.wrote))
	}
}

// An unfinished run is not taken for another: of another range it is an error, until it is forgotten.
func TestAnotherRangeDoesNotGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.write(20, kgo.TryCommit)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := r.cfg
	cfg.Rate, cfg.Progress = 4, func(int64, int64) { cancel() }
	if did, err := replay.Run(ctx, cfg); !errors.Is(err, context.Canceled) || did.Done {
		t.Fatalf("%+v %v", did, err)
	}
	other := r.cfg
	other.Key = "k1"
	if _, err := replay.Run(t.Context(), other); !errors.Is(err, replay.ErrUnfinished) {
		t.Errorf("got %v", err)
	}
	other.Restart = true
	if did := r.run(other); did.Resumed || did.Sent != 3 {
		t.Errorf("%+v", did)
	}
}

func TestTopicsThatAreNotWrittenTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for _, c := range []struct{ topic, into string }{
		{r.cfg.Topic, r.cfg.Topic}, {r.cfg.Topic, "__consumer_offsets"}, {r.cfg.Topic, "shop.orders"}, {r.cfg.Topic, ""}, {r.cfg.Topic, "a b"},
		{"__millrace.shop.cursor", r.cfg.Into},
	} {
		cfg := r.cfg
		cfg.Topic, cfg.Into, cfg.Outboxes = c.topic, c.into, map[string][]string{"shop": {"shop.orders"}}
		if _, err := replay.Run(t.Context(), cfg); !errors.Is(err, replay.ErrForbidden) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	cfg := r.cfg
	cfg.Topic = harness.Unique("nowhere")
	if _, err := replay.Run(t.Context(), cfg); !errors.Is(err, replay.ErrNoTopic) {
		t.Errorf("%v", err)
	}
}
