package fold

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/internal/crashpoint"
)

// Points at which a test can have the process killed (internal/crashpoint).
const (
	pointFolded   = "repair-folded"   // keys are folded anew, and the store holds what it held
	pointReplaced = "repair-replaced" // the store holds what they make, and nobody has an answer
)

var _ consumers.Repairer = (*Fold)(nil)

// Repair implements consumers.Repairer.
//
// Promise 4: a key's state becomes that of applying each of its events once, in order, up to the position or to the event that its quarantine stands at. It is one
// commit at the present epoch and position, so that it is there whole or not at all, and done twice it has its effect once.
func (f *Fold) Repair(ctx context.Context, r consumers.Repair) (map[string]consumers.Repaired, error) {
	o, err := f.owner(r.TopicPartition)
	if err != nil {
		return nil, err
	}
	if len(f.byTopic[r.Topic]) == 0 {
		return nil, consumers.Impossible(fmt.Errorf("the sink keeps no entity of topic %s: there is nothing to repair", r.Topic))
	}
	m := &mending{f: f, o: o, Repair: r, projections: f.byTopic[r.Topic], keys: map[string]*mended{}, out: map[string]consumers.Repaired{}}
	for key := range r.Keys {
		m.keys[key] = &mended{states: make([]Stored, len(m.projections)), known: make([]bool, len(m.projections))}
	}
	if o.next < 0 {
		return m.absent(), nil
	}
	if _, err := History(ctx, r.Kafka, f.cfg.Sink, r.TopicPartition, r.Start, o.next, func(rec *kgo.Record) error { return m.take(ctx, rec) }); err != nil {
		var forgotten *Forgotten
		if errors.As(err, &forgotten) || errors.Is(err, ErrNoPayload) {
			err = consumers.Impossible(fmt.Errorf("%w: rebuild the sink instead", err))
		}
		return nil, err
	}
	if err := m.commit(ctx); err != nil {
		return nil, err
	}
	return m.out, nil
}

// mending is a repair under way.
type mending struct {
	consumers.Repair
	f           *Fold
	o           *owned
	projections []Projection
	keys        map[string]*mended
	read        int64
	out         map[string]consumers.Repaired
}

// mended is what the events of one key make, by projection.
type mended struct {
	states []Stored
	known  []bool
	events int64
}

func (m *mending) absent() map[string]consumers.Repaired {
	for key := range m.keys {
		m.out[key] = consumers.Repaired{Absent: true}
	}
	return m.out
}

// take applies one record of the history.
func (m *mending) take(ctx context.Context, rec *kgo.Record) error {
	if m.read++; m.read%10_000 == 0 {
		m.Progress(ctx, m.read)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	k := m.keys[string(rec.Key)]
	if k == nil || m.Keys[string(rec.Key)].Skip[rec.Offset] {
		return nil
	}
	if mark, marked := m.f.Quarantined(m.TopicPartition, string(rec.Key)); marked && rec.Offset >= mark {
		return nil // it waits
	}
	ev, err := m.Decode(ctx, rec)
	if err != nil {
		return fmt.Errorf("decode %s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	if ev.Err != nil || !ev.HasKey() {
		return nil // it was put aside, and given up
	}
	return m.apply(k, &ev)
}

// apply applies an event to all states of its key. One that cannot be applied to one of them was put aside, and given up: else the key would be quarantined before it.
func (m *mending) apply(k *mended, ev *consumers.Event) error {
	states, known := slices.Clone(k.states), slices.Clone(k.known)
	for i, p := range m.projections {
		var err error
		if known[i], err = Apply(p, &states[i], known[i], ev); err != nil {
			if consumers.Classify(err) == consumers.Systemic {
				return err
			}
			return nil
		}
	}
	k.states, k.known = states, known
	k.events++
	return nil
}

// commit puts the states in the place of what stands there.
func (m *mending) commit(ctx context.Context) error {
	c := Commit{TopicPartition: m.TopicPartition, Epoch: m.o.epoch, From: m.o.next, Next: m.o.next, Changes: map[string][]Change{}, Replace: true}
	keys := slices.Sorted(maps.Keys(m.keys))
	stored := make([]map[string]Stored, len(m.projections))
	for i, p := range m.projections {
		var err error
		if stored[i], err = m.f.cfg.Sink.Load(ctx, p.Entity(), keys); err != nil {
			return fmt.Errorf("load %s to repair: %w", p.Entity(), err)
		}
	}
	for _, key := range keys {
		if err := m.change(&c, key, stored); err != nil {
			return err
		}
	}
	if len(c.Changes) == 0 {
		return nil
	}
	crashpoint.Reach(pointFolded)
	if err := m.f.cfg.Sink.Commit(ctx, c); err != nil {
		return unsure(fmt.Errorf("commit what was folded anew of %s/%d: %w", m.Topic, m.Partition, err))
	}
	crashpoint.Reach(pointReplaced)
	return nil
}

// change adds the changes of one key to the commit, those of every entity or none.
func (m *mending) change(c *Commit, key string, stored []map[string]Stored) error {
	k := m.keys[key]
	for i, p := range m.projections {
		if was, ok := stored[i][key]; ok && k.known[i] && was.Version > k.states[i].Version {
			m.out[key] = consumers.Repaired{Trouble: fmt.Sprintf("the store holds version %d of %s, and the key's last event is version %d: somebody wrote it who is not "+
				"the sink; take that state away and repair again", was.Version, p.Entity(), k.states[i].Version)}
			return nil
		}
	}
	if k.events == 0 && !m.Keys[key].Remove {
		m.out[key] = consumers.Repaired{Absent: true}
		return nil
	}
	m.out[key] = consumers.Repaired{Events: k.events}
	for i, p := range m.projections {
		was, held := stored[i][key]
		ch := Change{Key: key, Stored: k.states[i], Existed: was.Exists}
		switch {
		case !k.known[i] && !held:
			continue
		case !k.known[i]: // it should not be there: what is left is that it was deleted
			ch.Version, ch.EventID, ch.Time = was.Version, was.EventID, was.Time
		}
		if err := m.cacheKeys(p, &ch, was); err != nil {
			return consumers.Impossible(err)
		}
		c.Changes[p.Entity()] = append(c.Changes[p.Entity()], ch)
	}
	return nil
}

// cacheKeys are those of the state that is replaced and of the new one.
func (m *mending) cacheKeys(p Projection, ch *Change, was Stored) error {
	for _, s := range []Stored{was, ch.Stored} {
		if !s.Exists {
			continue
		}
		keys, err := p.CacheKeys(ch.Key, s.State)
		if err != nil && s.Version == ch.Version && s.EventID == ch.EventID {
			return err
		}
		ch.CacheKeys = append(ch.CacheKeys, keys...)
	}
	slices.Sort(ch.CacheKeys)
	ch.CacheKeys = slices.Compact(ch.CacheKeys)
	if v, versioned := p.(CacheVersioner); versioned {
		ch.CacheVersion = rowAfter(v, was.State, ch.State)
	}
	return nil
}
