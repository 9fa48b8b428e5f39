package bleve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search"
)

// widgets is a projection whose columns have every kind. The tests make its states themselves.
type widgets struct {
	entity, digest string
}

func (w widgets) Entity() string { return w.entity }
func (w widgets) Topic() string  { return "things" }
func (w widgets) Digest() string { return w.digest }
func (w widgets) Columns() []projection.Column {
	col := func(name string, k projection.Kind) projection.Column {
		return projection.Column{Name: name, Type: projection.Type{Kind: k}}
	}
	return []projection.Column{
		col("name", projection.Text),
		col("sku", projection.Text),
		col("count", projection.Int),
		{Name: "price", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}},
		col("made_at", projection.Timestamp),
		col("day", projection.Date),
		col("sold", projection.Bool),
		{Name: "tags", Type: projection.Type{Kind: projection.List, Elem: &projection.Type{Kind: projection.Text}}},
		col("extra", projection.JSON),
		col("weight", projection.Float),
		col("raw", projection.Bytes),
		col("took", projection.Duration),
	}
}
func (w widgets) SearchFields() projection.Search { return projection.Search{Keyword: []string{"sku"}} }
func (w widgets) Fold(prev projection.State, _ *consumers.Event) (projection.State, error) {
	return prev, nil
}
func (w widgets) CacheKeys(string, projection.State) ([]string, error) { return nil, nil }

var (
	widget = widgets{entity: "widget", digest: "d1"}
	gadget = widgets{entity: "gadget", digest: "d1"}
	things = consumers.TopicPartition{Topic: "things", Partition: 3}
	at     = time.Date(2024, 3, 1, 12, 30, 0, 123456000, time.UTC)
)

// made is a widget; name, sku and count tell widgets apart.
func made(version int64, name, sku string, count int64) fold.Stored {
	return fold.Stored{
		Version: version, EventID: fmt.Sprintf("event-%d", version), Time: at,
		State: projection.State{Exists: true, Values: []any{
			name, sku, count, big.NewRat(1999*count, 100), at.AddDate(0, 0, int(count)), at.Truncate(24 * time.Hour), count%2 == 0,
			[]any{"tag" + fmt.Sprint(count), "common"}, map[string]any{"a": []any{int64(1), nil}}, 1.5, []byte{0, 255}, 90 * time.Second,
		}},
	}
}

func changes(m map[string]fold.Stored) []fold.Change {
	var out []fold.Change
	for key, s := range m {
		out = append(out, fold.Change{Key: key, Stored: s})
	}
	return out
}

func open(t testing.TB, path string, projections ...fold.Projection) *Sink {
	t.Helper()
	if projections == nil {
		projections = []fold.Projection{widget, gadget}
	}
	s, err := Open(Config{Path: path, Projections: projections, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func claim(t testing.TB, s *Sink, tp consumers.TopicPartition) fold.Claim {
	t.Helper()
	c, err := s.Claim(context.Background(), tp)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fill commits states of one entity as one batch behind what is there.
func fill(t testing.TB, s *Sink, tp consumers.TopicPartition, entity string, states map[string]fold.Stored) {
	t.Helper()
	c := claim(t, s, tp)
	err := s.Commit(context.Background(), fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: max(c.Next, 0), Next: max(c.Next, 0) + 10,
		Changes: map[string][]fold.Change{entity: changes(states)}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoadReturnsAStateExactlyAsItWasCommitted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	want := map[string]fold.Stored{
		"a":       made(1, "Blue widget", "W-1", 1),
		"":        made(2, "no key", "W-2", 2),
		"x/y z\n": {Version: 3, EventID: "gone", Time: at},
		"nulls":   {Version: 4, Time: at, State: projection.State{Exists: true, Values: make([]any, len(widget.Columns()))}},
	}
	fill(t, s, things, "widget", want)
	check := func(s *Sink) {
		t.Helper()
		got, err := s.Load(context.Background(), "widget", []string{"a", "", "x/y z\n", "nulls", "never"})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if other, err := s.Load(context.Background(), "gadget", []string{"a"}); err != nil || len(other) != 0 {
			t.Errorf("the other entity has %v, %v", other, err)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir))
}

func TestPromise4_AStaleOwnerAndAWrongPositionChangeNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir())
	first := claim(t, s, things)
	if first.Epoch != 1 || first.Next != -1 {
		t.Fatalf("the first claim is %+v", first)
	}
	commit := func(epoch, from int64, version int64) error {
		return s.Commit(ctx, fold.Commit{TopicPartition: things, Epoch: epoch, From: from, Next: from + 10, Quarantine: map[string]int64{"q": from},
			Changes: map[string][]fold.Change{"widget": {{Key: "a", Stored: made(version, "w", "s", 1)}}}})
	}
	if err := commit(1, 5, 1); err != nil {
		t.Fatal(err)
	}
	second := claim(t, s, things)
	if second.Epoch != 2 || second.Next != 15 || !reflect.DeepEqual(second.Quarantined, map[string]int64{"q": 5}) {
		t.Fatalf("the second claim is %+v", second)
	}
	if err := commit(1, 15, 2); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("the former owner got %v", err)
	}
	for _, from := range []int64{5, 14, 16} {
		if err := commit(2, from, 3); !errors.Is(err, consumers.ErrPosition) {
			t.Errorf("a commit from %d got %v", from, err)
		}
	}
	unclaimed := fold.Commit{TopicPartition: consumers.TopicPartition{Topic: "other"}, Epoch: 1}
	if err := s.Commit(ctx, unclaimed); !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("a commit without a claim got %v", err)
	}
	got, err := s.Load(ctx, "widget", []string{"a"})
	if err != nil || got["a"].Version != 1 {
		t.Errorf("the state is %+v, %v", got, err)
	}
	positions, err := s.Positions(ctx)
	if err != nil || !reflect.DeepEqual(positions, map[consumers.TopicPartition]int64{things: 15}) {
		t.Errorf("the positions are %v, %v", positions, err)
	}
}

func TestLanesOfPartitionsCommitAtTheSameTime(t *testing.T) {
	t.Parallel()
	const lanes, batches = 4, 12
	dir := t.TempDir()
	s := open(t, dir)
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			tp := consumers.TopicPartition{Topic: "things", Partition: int32(lane)}
			for i := range batches {
				fill(t, s, tp, "widget", map[string]fold.Stored{fmt.Sprintf("%d-%d", lane, i): made(int64(i+1), "w", "s", int64(i))})
				if _, err := s.Search(context.Background(), search.Query{Entity: "widget", Text: "w"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for lane := range lanes {
		if c := claim(t, s, consumers.TopicPartition{Topic: "things", Partition: int32(lane)}); c.Next != batches*10 || c.Epoch != batches+1 {
			t.Errorf("lane %d is at %+v", lane, c)
		}
	}
	res, err := s.Search(context.Background(), search.Query{Entity: "widget"})
	if err != nil || res.Total != lanes*batches {
		t.Errorf("the index has %+v, %v", res, err)
	}
}

func TestOpenRefusesWhatOtherDeclarationsBuilt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, widget)
	if err := s.Commit(context.Background(), fold.Commit{TopicPartition: things, Epoch: claim(t, s, things).Epoch, From: 0, Next: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, projections := range [][]fold.Projection{{widgets{"widget", "d2"}}, {widget, gadget}, {gadget}} {
		_, err := Open(Config{Path: dir, Projections: projections})
		if !errors.Is(err, ErrDeclaration) || consumers.Classify(err) != consumers.Systemic {
			t.Errorf("opened with %v: %v", projections, err)
		}
	}
	_ = open(t, dir, widget)
}

func TestOpenFailsWhileTheIndexIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(Config{Path: dir, Projections: []fold.Projection{widget, gadget}}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := s.Load(context.Background(), "widget", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Load after Close: %v", err)
	}
}
