package compare

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Two are the two generations that are compared.
type Two struct {
	// Old and New are what they hold at one cut. They stay the caller's to close.
	Old, New fold.Snapshot
	// OldProjections and NewProjections are their declarations.
	OldProjections, NewProjections []fold.Projection
	// Partitions are the numbers of partitions that the topics' keys are hashed over. A topic without one counts as one partition; that changes no result but
	// the sides by partition.
	Partitions map[string]int32
	// LoadOld and LoadNew are the stores' fold.Shown. They are asked for keys that moved, where a snapshot is not Exact; both must then be going on
	// with the topics. Required for such a snapshot.
	LoadOld, LoadNew Load
	Options          Options
}

// Load returns stored states; see fold.Sink.
type Load func(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error)

// Options bound a comparison. The zero value means the defaults.
type Options struct {
	// MaxKeys is the most keys that are paired at a time; more take another pass over both stores. Default 1,000,000: about 170 MB.
	MaxKeys int64
	// Examples is the most differences that are shown of an entity, and of values of a changed column. Default 20.
	Examples int
	// Patience is how long keys that move are loaded again before they count as different. Default 30 s.
	Patience time.Duration
	// Progress, if set, is told now and then how many states were read.
	Progress func(states int64)
}

func (o Options) withDefaults() Options {
	o.MaxKeys = cmp.Or(o.MaxKeys, 1_000_000)
	o.Examples = cmp.Or(o.Examples, 20)
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	return o
}

// Generations compares two generations: every key of every entity. The snapshots' positions must be equal where both are Exact; that they are is checked.
// An error says that it could not be compared, never that there are differences.
func Generations(ctx context.Context, two Two) (*Comparison, error) {
	began := time.Now()
	two.Options = two.Options.withDefaults()
	c := &Comparison{At: began.UTC(), Cut: CutOf(two.Old.Positions()), Entities: map[string]*Compared{}}
	if err := two.check(); err != nil {
		return nil, err
	}
	read := int64(0)
	for _, after := range two.NewProjections {
		before := byEntity(two.OldProjections, after.Entity())
		out, err := two.entity(ctx, before, after, &read)
		if err != nil {
			return nil, fmt.Errorf("compare entity %s: %w", after.Entity(), err)
		}
		c.Entities[after.Entity()] = out
	}
	for _, before := range two.OldProjections {
		if byEntity(two.NewProjections, before.Entity()) != nil {
			continue
		}
		out, err := alone(ctx, two.Old, before, "gone")
		if err != nil {
			return nil, fmt.Errorf("count entity %s: %w", before.Entity(), err)
		}
		c.Entities[before.Entity()] = out
	}
	c.judge()
	c.Took = time.Since(began)
	return c, nil
}

func (two *Two) inexact() bool { return !two.Old.Exact() || !two.New.Exact() }

func (two *Two) check() error {
	if two.inexact() {
		if two.LoadOld == nil || two.LoadNew == nil {
			return fmt.Errorf("compare: a store that cannot be read at one moment needs LoadOld and LoadNew")
		}
		return nil
	}
	old, now := two.Old.Positions(), two.New.Positions()
	for tp := range maps.Keys(mergeKeys(old, now)) {
		if old[tp] != now[tp] {
			return fmt.Errorf("compare: the old generation is at %s/%d offset %d, the new at %d: they must stand at one cut", tp.Topic, tp.Partition, old[tp], now[tp])
		}
	}
	return nil
}

func mergeKeys(a, b map[consumers.TopicPartition]int64) map[consumers.TopicPartition]int64 {
	all := maps.Clone(b)
	if all == nil {
		all = map[consumers.TopicPartition]int64{}
	}
	maps.Copy(all, a)
	return all
}

// CutOf are positions in order.
func CutOf(positions map[consumers.TopicPartition]int64) []Cut {
	out := make([]Cut, 0, len(positions))
	for tp, offset := range positions {
		out = append(out, Cut{tp, offset})
	}
	slices.SortFunc(out, func(a, b Cut) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

func byEntity(all []fold.Projection, entity string) fold.Projection {
	for _, p := range all {
		if p.Entity() == entity {
			return p
		}
	}
	return nil
}

// judge sums up.
func (c *Comparison) judge() {
	c.Equal, c.Acceptable = true, true
	for _, e := range c.Entities {
		c.Acceptable = c.Acceptable && e.Different == 0
		c.Equal = c.Equal && e.Different == 0
		for _, ch := range e.Changed {
			c.Equal = c.Equal && ch.States == 0
		}
	}
}

// alone counts an entity that one generation has and the other has not.
func alone(ctx context.Context, s fold.Snapshot, p fold.Projection, how string) (*Compared, error) {
	one := ChangedColumn{How: how}
	err := s.States(ctx, p.Entity(), func(_ string, st fold.Stored) error {
		if st.Exists {
			one.States++
		}
		return nil
	})
	return &Compared{Changed: []ChangedColumn{one}}, err
}

// entity compares one entity.
func (two *Two) entity(ctx context.Context, before, after fold.Projection, read *int64) (*Compared, error) {
	if before == nil {
		return alone(ctx, two.New, after, "added")
	}
	p := newPlan(before, after, two.Partitions[after.Topic()])
	r := &run{Two: two, plan: p, spread: newSpread(p.partitions), read: read, out: &Compared{}}
	return r.compare(ctx)
}

// run is the comparison of one entity.
type run struct {
	*Two
	*plan
	spread
	read *int64
	out  *Compared

	changed []ChangedColumn // as plan.changed; the last one is existence
	wanted  map[string]Kind // keys that differ, to be shown
	shown   map[string][]int
	moved   map[string]bool // keys to be loaded again: of one group, and so about Options.MaxKeys at most
}

func (r *run) compare(ctx context.Context) (*Compared, error) {
	old, now := newTally(r.side(false), r.spread), newTally(r.side(true), r.spread)
	if err := r.scan(ctx, r.Old, old.add); err != nil {
		return nil, err
	}
	if err := r.scan(ctx, r.New, now.add); err != nil {
		return nil, err
	}
	r.out.Old, r.out.New = old.sides(now), now.sides(old)
	r.begin()
	numbers, _ := old.differ(now)
	for _, group := range rounds(old, now, numbers, r.Options.MaxKeys) {
		if err := r.pair(ctx, group); err != nil {
			return nil, err
		}
		if err := r.reload(ctx); err != nil { // group by group: no more keys move at a time than are paired
			return nil, err
		}
	}
	if err := r.tell(ctx); err != nil {
		return nil, err
	}
	r.end()
	return r.out, nil
}

// begin makes room for what will be found.
func (r *run) begin() {
	r.wanted, r.shown, r.moved = map[string]Kind{}, map[string][]int{}, map[string]bool{}
	for _, m := range r.plan.changed {
		r.changed = append(r.changed, ChangedColumn{Column: m.name, How: m.how})
	}
	if r.existence {
		r.changed = append(r.changed, ChangedColumn{How: "existence"})
	}
}

// end brings the results into order. A column that only might have changed, and has not, is left out.
func (r *run) end() {
	for i, c := range r.changed {
		if c.How == "existence" && c.States == 0 {
			continue
		}
		slices.SortFunc(r.changed[i].Examples, func(a, b Example) int { return cmp.Compare(a.Key, b.Key) })
		r.out.Changed = append(r.out.Changed, r.changed[i])
	}
	slices.SortFunc(r.out.Differences, func(a, b Difference) int { return cmp.Compare(a.Key, b.Key) })
}

// scan hands over the states of a snapshot.
func (r *run) scan(ctx context.Context, s fold.Snapshot, yield func(key string, st *fold.Stored)) error {
	return s.States(ctx, r.plan.entity, func(key string, st fold.Stored) error {
		if *r.read++; *r.read%1000 == 0 {
			r.Options.Progress(*r.read)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		yield(key, &st)
		return nil
	})
}

// pair compares the keys of some buckets one by one.
func (r *run) pair(ctx context.Context, group []int) error {
	p := newPairs(r.side(false), r.side(true), r.spread, group)
	p.found = func(key string, kind Kind, _ *entry, _ *fold.Stored) { r.found(key, kind) }
	p.changes = func(key string, i int) { r.foundChange(key, i) }
	if err := r.scan(ctx, r.Old, func(key string, st *fold.Stored) { p.expect(key, st, false) }); err != nil {
		return err
	}
	if err := r.scan(ctx, r.New, p.see); err != nil {
		return err
	}
	p.finish()
	return nil
}

func (r *run) found(key string, kind Kind) {
	if r.inexact() && kind != Doubled {
		r.moved[key] = true
		return
	}
	r.out.Different++
	if len(r.wanted) < r.Options.Examples {
		r.wanted[key] = kind
	}
}

func (r *run) foundChange(key string, i int) {
	if r.changed[i].States++; r.changed[i].States <= int64(r.Options.Examples) {
		r.shown[key] = append(r.shown[key], i)
	}
}

// tell reads the states that are shown, in full.
func (r *run) tell(ctx context.Context) error {
	if len(r.wanted)+len(r.shown) == 0 {
		return nil
	}
	var states [2]map[string]*fold.Stored
	doubled := map[string]bool{}
	for i, s := range []fold.Snapshot{r.Old, r.New} {
		states[i] = map[string]*fold.Stored{}
		err := r.scan(ctx, s, func(key string, st *fold.Stored) {
			if _, wanted := r.wanted[key]; wanted || r.shown[key] != nil {
				doubled[key] = doubled[key] || states[i][key] != nil
				states[i][key] = st
			}
		})
		if err != nil {
			return err
		}
	}
	for key, kind := range r.wanted {
		if kind == Doubled && !doubled[key] && r.inexact() {
			r.out.Different-- // the store gave it twice in one reading: it moved
			continue
		}
		r.show(key, kind, states[0][key], states[1][key])
	}
	for key, columns := range r.shown {
		for _, i := range columns {
			r.example(key, i, states[0][key], states[1][key])
		}
	}
	return nil
}

// show adds a difference to those that are shown.
func (r *run) show(key string, kind Kind, old, now *fold.Stored) {
	d := r.difference(key, kind, old, now)
	if right := cmp.Or(old, now); right != nil {
		d.Version, d.Since = right.Version, right.Time
	}
	r.out.Differences = append(r.out.Differences, d)
}

func (r *run) example(key string, i int, old, now *fold.Stored) {
	c := &r.changed[i]
	ex := Example{Key: key}
	if i == len(r.plan.changed) {
		ex.Old, ex.New = tellColumns(r.old, old, nil), tellColumns(r.new, now, nil)
	} else {
		m := r.plan.changed[i]
		ex.Old, ex.New = r.told(false, m, old), r.told(true, m, now)
	}
	c.Examples = append(c.Examples, ex)
}

func (r *run) told(isNew bool, m match, st *fold.Stored) string {
	s := side{plan: r.plan, new: isNew}
	n := s.number(m)
	if n < 0 {
		return ""
	}
	return cut(string(appendTold(nil, s.all()[n].Type, valueAt(st, n))))
}
