package compare

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// declared is a declaration of which only columns, digest and parts matter.
type declared struct {
	fold.Projection
	entity, topic, digest string
	columns               []projection.Column
	parts                 projection.Parts
}

func (d declared) Entity() string               { return d.entity }
func (d declared) Topic() string                { return d.topic }
func (d declared) Digest() string               { return d.digest }
func (d declared) Columns() []projection.Column { return d.columns }
func (d declared) Parts() projection.Parts      { return d.parts }

func orders() declared {
	return declared{
		entity: "order", topic: "shop.orders", digest: "1",
		columns: []projection.Column{
			{Name: "status", Type: projection.Type{Kind: projection.Text}},
			{Name: "total", Type: projection.Type{Kind: projection.Decimal, Precision: 30, Scale: 2}},
			{Name: "lines", Type: projection.Type{Kind: projection.JSON}},
			{Name: "double", Type: projection.Type{Kind: projection.Decimal, Precision: 30, Scale: 2}},
		},
		parts: projection.Parts{
			Existence: "e", Columns: map[string]string{"status": "s", "total": "t", "lines": "l", "double": "d"},
			Reads: map[string][]string{"double": {"total"}},
		},
	}
}

// row is a stored state.
type row struct {
	key string
	fold.Stored
}

// shown is a snapshot of rows.
type shown struct {
	at      map[consumers.TopicPartition]int64
	inexact bool
	rows    map[string][]row
	passes  int
}

func (s *shown) Positions() map[consumers.TopicPartition]int64 { return s.at }
func (s *shown) Exact() bool                                   { return !s.inexact }
func (s *shown) Close() error                                  { return nil }

func (s *shown) States(_ context.Context, entity string, yield func(string, fold.Stored) error) error {
	s.passes++
	for _, r := range s.rows[entity] {
		if err := yield(r.key, r.Stored); err != nil {
			return err
		}
	}
	return nil
}

// load is fold.Sink.Load.
func (s *shown) load(_ context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	out := map[string]fold.Stored{}
	for _, r := range s.rows[entity] {
		if slices.Contains(keys, r.key) {
			out[r.key] = r.Stored
		}
	}
	return out, nil
}

func (s *shown) clone() *shown {
	c := &shown{at: s.at, inexact: s.inexact, rows: map[string][]row{}}
	for entity, rows := range s.rows {
		for _, r := range rows {
			r.Values = slices.Clone(r.Values)
			c.rows[entity] = append(c.rows[entity], r)
		}
	}
	return c
}

var at = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func order(n int, rng *rand.Rand) row {
	r := row{key: fmt.Sprintf("o-%d", n)}
	r.Version, r.Time = int64(n*3+1), at.Add(time.Duration(n)*time.Second)
	if n%11 == 10 {
		return r // deleted
	}
	total := new(big.Rat).SetFrac64(rng.Int64(), 100)
	r.State = projection.State{Exists: true, Values: []any{
		fmt.Sprint("status ", n%5), total, map[string]any{"a": int64(n), "b": []any{nil, 1.5, "x"}}, new(big.Rat).Add(total, total),
	}}
	return r
}

// seeded tells the seed of a random test, which MILLRACE_SEED repeats.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("MILLRACE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MILLRACE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func filled(n int, rng *rand.Rand) *shown {
	s := &shown{at: map[consumers.TopicPartition]int64{{Topic: "shop.orders"}: 100}, rows: map[string][]row{}}
	for i := range n {
		s.rows["order"] = append(s.rows["order"], order(i, rng))
	}
	return s
}

func two(old, now *shown, before, after declared) Two {
	return Two{
		Old: old, New: now, OldProjections: []fold.Projection{before}, NewProjections: []fold.Projection{after},
		Partitions: map[string]int32{"shop.orders": 7}, LoadOld: old.load, LoadNew: now.load, Options: Options{Patience: time.Millisecond},
	}
}

func compared(t *testing.T, in Two) *Comparison {
	t.Helper()
	c, err := Generations(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shuffle(rng *rand.Rand, s *shown) {
	rows := s.rows["order"]
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
}

func TestEqualStoresAreEqualInAnyOrderInOnePass(t *testing.T) {
	rng := seeded(t)
	old := filled(3000, rng)
	now := old.clone()
	shuffle(rng, now)
	// Equal numbers that are made of other parts.
	for _, r := range now.rows["order"] {
		if r.Exists {
			r.Values[1] = new(big.Rat).Quo(new(big.Rat).Mul(r.Values[1].(*big.Rat), big.NewRat(6, 1)), big.NewRat(6, 1))
		}
	}
	c := compared(t, two(old, now, orders(), orders()))
	if !c.Equal || !c.Acceptable || c.Entities["order"].Different != 0 || len(c.Entities["order"].Changed) != 0 {
		t.Fatalf("%+v", c.Entities["order"])
	}
	if old.passes != 1 || now.passes != 1 {
		t.Errorf("%d and %d passes", old.passes, now.passes)
	}
	states, deleted := int64(0), int64(0)
	for i, s := range c.Entities["order"].Old {
		if s != c.Entities["order"].New[i] {
			t.Errorf("sides %+v and %+v", s, c.Entities["order"].New[i])
		}
		states, deleted = states+s.States, deleted+s.Deleted
	}
	if states+deleted != 3000 || deleted == 0 || len(c.Entities["order"].Old) != 7 {
		t.Errorf("%d states and %d deleted in %d partitions", states, deleted, len(c.Entities["order"].Old))
	}
	if len(c.Cut) != 1 || c.Cut[0].Offset != 100 {
		t.Errorf("cut %+v", c.Cut)
	}
}

// planted are differences of every kind, made behind the back of a store.
var planted = map[string]struct {
	kind    Kind
	columns string
	plant   func(rows []row, i int) []row
}{
	"gone":      {Missing, "[]", func(rows []row, i int) []row { return slices.Delete(rows, i, i+1) }},
	"invented":  {Unexpected, "[]", func(rows []row, i int) []row { r := rows[i]; r.key += "x"; return append(rows, r) }},
	"doubled":   {Doubled, "[]", func(rows []row, i int) []row { return append(rows, rows[i]) }},
	"version":   {Version, "[]", func(rows []row, i int) []row { rows[i].Version++; return rows }},
	"deleted":   {Columns, "[status total lines double]", func(rows []row, i int) []row { rows[i].State = projection.State{}; return rows }},
	"one cent":  {Columns, "[total]", func(rows []row, i int) []row { bump(rows[i].Values); return rows }},
	"null":      {Columns, "[status]", func(rows []row, i int) []row { rows[i].Values[0] = nil; return rows }},
	"deep":      {Columns, "[lines]", func(rows []row, i int) []row { rows[i].Values[2].(map[string]any)["b"].([]any)[1] = 1.25; return rows }},
	"no value":  {Columns, "[double]", func(rows []row, i int) []row { rows[i].Values[3] = "text"; return rows }},
	"few value": {Columns, "[double]", func(rows []row, i int) []row { rows[i].Values = rows[i].Values[:3]; return rows }},
}

func bump(values []any) { values[1] = new(big.Rat).Add(values[1].(*big.Rat), big.NewRat(1, 100)) }

func TestEveryPlantedDifferenceIsFound(t *testing.T) {
	for name, p := range planted {
		for _, maxKeys := range []int64{1, 1000} {
			t.Run(fmt.Sprint(name, maxKeys), func(t *testing.T) {
				rng := seeded(t)
				old := filled(500, rng)
				now := filled(500, rand.New(rand.NewPCG(0, 0)))
				now.rows = old.clone().rows
				for i := range now.rows["order"] { // nothing shared that is planted in
					if r := now.rows["order"][i]; r.Exists {
						r.Values[2] = map[string]any{"a": r.Values[2].(map[string]any)["a"], "b": []any{nil, 1.5, "x"}}
					}
				}
				i := rng.IntN(500)
				if i%11 == 10 {
					i--
				}
				key := now.rows["order"][i].key
				now.rows["order"] = p.plant(now.rows["order"], i)
				shuffle(rng, now)
				in := two(old, now, orders(), orders())
				in.Options.MaxKeys = maxKeys
				c := compared(t, in)
				e := c.Entities["order"]
				if c.Equal || c.Acceptable || e.Different != 1 || len(e.Differences) != 1 {
					t.Fatalf("%+v", e)
				}
				d := e.Differences[0]
				if name == "invented" {
					key += "x"
				}
				if d.Key != key || d.Kind != p.kind || fmt.Sprint(d.Columns) != p.columns || d.Entity != "order" {
					t.Errorf("%+v", d)
				}
				if p.kind != Missing && d.New == "" && p.kind != Doubled || p.kind != Unexpected && d.Old == "" && p.kind != Doubled {
					t.Errorf("not shown: %+v", d)
				}
				if p.kind != Unexpected && !d.Since.Equal(old.rows["order"][i].Time) {
					t.Errorf("since %v", d.Since)
				}
			})
		}
	}
}

func TestADoubleOfTheOldIsFoundToo(t *testing.T) {
	old := filled(50, seeded(t))
	now := old.clone()
	old.rows["order"] = append(old.rows["order"], old.rows["order"][3])
	e := compared(t, two(old, now, orders(), orders())).Entities["order"]
	if e.Different != 1 || e.Differences[0].Kind != Doubled || e.Differences[0].Key != "o-3" {
		t.Errorf("%+v", e)
	}
}

func TestManyDifferencesAreCountedAndSomeShown(t *testing.T) {
	old := filled(3000, seeded(t))
	now := old.clone()
	for i := range now.rows["order"] {
		now.rows["order"][i].Version++
	}
	in := two(old, now, orders(), orders())
	in.Options.MaxKeys, in.Options.Examples = 700, 9
	e := compared(t, in).Entities["order"]
	if e.Different != 3000 || len(e.Differences) != 9 {
		t.Errorf("%d different, %d shown", e.Different, len(e.Differences))
	}
}

func TestDifferentCutsAreNotCompared(t *testing.T) {
	old := filled(1, seeded(t))
	now := old.clone()
	now.at = map[consumers.TopicPartition]int64{{Topic: "shop.orders"}: 99}
	if _, err := Generations(t.Context(), two(old, now, orders(), orders())); err == nil {
		t.Fatal("compared at two cuts")
	}
}

// Promise 8: equal in every column whose declaration did not change; the others are listed and accepted.
func TestColumnsThatTheDeclarationChangesAreListed(t *testing.T) {
	old := filled(300, seeded(t))
	now := old.clone()
	after := orders()
	after.digest = "2"
	after.parts.Columns = map[string]string{"status": "s", "total": "other", "lines": "l", "double": "d", "extra": "x"}
	after.columns = append(slices.Clone(after.columns), projection.Column{Name: "extra", Type: projection.Type{Kind: projection.Int}})
	for i := range now.rows["order"] {
		if r := &now.rows["order"][i]; r.Exists {
			bump(r.Values)
			r.Values[3] = new(big.Rat).Add(r.Values[1].(*big.Rat), r.Values[1].(*big.Rat)) // it reads total
			r.Values = append(r.Values, any(nil))
			if i%2 == 0 {
				r.Values[4] = int64(i)
			}
		}
	}
	c := compared(t, two(old, now, orders(), after))
	e := c.Entities["order"]
	if c.Equal || !c.Acceptable || e.Different != 0 {
		t.Fatalf("%+v", e)
	}
	got := ""
	for _, ch := range e.Changed {
		got += fmt.Sprintf("%s %s %d %d; ", ch.Column, ch.How, ch.States, len(ch.Examples))
	}
	if want := "total redefined 273 20; double redefined 273 20; extra added 136 20; "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if x := e.Changed[0].Examples[0]; x.Old == "" || x.Old == x.New {
		t.Errorf("%+v", x)
	}
	// A column that did not change must be equal all the same.
	now.rows["order"][5].Values[0] = "wrong"
	c = compared(t, two(old, now, orders(), after))
	if e := c.Entities["order"]; c.Acceptable || e.Different != 1 || e.Differences[0].Key != "o-5" || fmt.Sprint(e.Differences[0].Columns) != "[status]" {
		t.Errorf("%+v", e)
	}
}

func TestARetypedColumnOfEqualValuesIsEqual(t *testing.T) {
	old := filled(100, seeded(t))
	now := old.clone()
	after := orders()
	after.digest = "2"
	after.columns = slices.Clone(after.columns)
	after.columns[1].Type.Scale = 4
	after.columns = after.columns[:3] // double, which reads total, is gone
	for i := range now.rows["order"] {
		if r := &now.rows["order"][i]; r.Exists {
			r.Values = r.Values[:3]
		}
	}
	c := compared(t, two(old, now, orders(), after))
	e := c.Entities["order"]
	if !c.Acceptable || len(e.Changed) != 2 || e.Changed[0].How != "retyped" || e.Changed[0].States != 0 || e.Changed[1].How != "gone" || e.Changed[1].States != 91 {
		t.Errorf("%+v", e)
	}
}

func TestStatesThatBeginAndEndOtherwiseAreListed(t *testing.T) {
	old := filled(100, seeded(t))
	now := old.clone()
	after := orders()
	after.digest, after.parts.Existence = "2", "other"
	now.rows["order"][1].State = projection.State{} // ended by the new declaration
	now.rows["order"] = slices.Delete(now.rows["order"], 2, 3)
	now.rows["order"][3].Values[0] = "kept from before"
	c := compared(t, two(old, now, orders(), after))
	e := c.Entities["order"]
	got := ""
	for _, ch := range e.Changed {
		got += fmt.Sprintf("%q %s %d; ", ch.Column, ch.How, ch.States)
	}
	want := `"status" existence 2; "total" existence 1; "lines" existence 1; "double" existence 1; "" existence 2; `
	if c.Equal || !c.Acceptable || got != want {
		t.Errorf("got  %s\nwant %s\n%+v", got, want, e)
	}
}

func TestEntitiesThatComeAndGoAreCounted(t *testing.T) {
	old := filled(100, seeded(t))
	now := old.clone()
	now.rows["item"] = now.rows["order"]
	gone, item := orders(), orders()
	item.entity = "item"
	c := compared(t, two(old, now, gone, item))
	if c.Equal || !c.Acceptable || c.Entities["order"].Changed[0].How != "gone" || c.Entities["item"].Changed[0].How != "added" || c.Entities["item"].Changed[0].States != 91 {
		t.Errorf("%+v", c)
	}
}

// moving is a store that goes on while it is read: a load sees the states as of some later moment.
type moving struct {
	*shown
	later []*shown // by load
}

func (m *moving) load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	if len(m.later) > 1 {
		m.later = m.later[1:]
	}
	return m.later[0].load(ctx, entity, keys)
}

func TestStatesThatMoveAreLoadedUntilTheirVersionsAreEqual(t *testing.T) {
	old := filled(1500, seeded(t))
	old.inexact = true
	now := old.clone()
	end := old.clone()
	for i := range 700 {
		end.rows["order"][i].Version += 5
	}
	for i := range 300 {
		old.rows["order"][i] = end.rows["order"][i] // read late
	}
	newer := &moving{now, []*shown{now, now, now, end}}
	older := &moving{old, []*shown{end}}
	in := two(old, now, orders(), orders())
	in.LoadOld, in.LoadNew, in.Options.Patience = older.load, newer.load, time.Minute
	c := compared(t, in)
	if e := c.Entities["order"]; !c.Equal || e.Moved != 300 || e.Different != 0 {
		t.Fatalf("%+v", e)
	}
	// What never meets is different, and so is what meets and differs.
	end.rows["order"][7].Values[0] = "wrong"
	newer.later, older.later = []*shown{end}, []*shown{end.clone()}
	older.later[0].rows["order"][7].Values[0], older.later[0].rows["order"][8].Version = "right", 1
	in.Options.Patience = time.Millisecond
	e := compared(t, in).Entities["order"]
	if e.Different != 2 || e.Differences[0].Key != "o-7" || e.Differences[0].Kind != Columns || e.Differences[1].Kind != Version {
		t.Errorf("%+v", e)
	}
}

// Keys that move are loaded again before the next ones are paired, each once: what is remembered of them has the bound of what is paired.
func TestKeysThatMoveAreLoadedGroupByGroup(t *testing.T) {
	now := filled(1500, seeded(t))
	now.inexact = true
	old := now.clone()
	for i := range old.rows["order"] {
		old.rows["order"][i].Version++ // all of them have moved
	}
	in := two(old, now, orders(), orders())
	in.Options.MaxKeys = 100
	in.LoadNew = old.load
	most, asked := int64(0), 0
	in.LoadOld = func(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
		most, asked = max(most, int64(len(keys))), asked+len(keys)
		return old.load(ctx, entity, keys)
	}
	c := compared(t, in)
	if e := c.Entities["order"]; !c.Equal || e.Different != 0 || e.Moved != 1500 {
		t.Errorf("%+v", e)
	}
	if asked != 1500 || most > in.Options.MaxKeys {
		t.Errorf("%d keys were loaded, %d at a time", asked, most)
	}
}

func TestAReadingThatBreaksOffIsAnError(t *testing.T) {
	old := filled(10, seeded(t))
	in := two(old, old.clone(), orders(), orders())
	broken := errors.New("disk")
	in.New = failing{old, broken}
	if _, err := Generations(t.Context(), in); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct {
	*shown
	err error
}

func (f failing) States(context.Context, string, func(string, fold.Stored) error) error { return f.err }
