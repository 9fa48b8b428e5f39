package sinktest

import (
	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// model is what a sink must look like in the end: each event applied once, in order, by the plainest loop there is.
type model struct {
	states      map[string]map[string]fold.Stored // by entity and key, deleted ones included
	quarantined map[string]int64
	letters     []int64 // offsets
	events      []consumers.Event
}

func newModel() *model {
	return &model{states: map[string]map[string]fold.Stored{EntityLedger: {}, EntityTally: {}}, quarantined: map[string]int64{}}
}

// apply applies the events of one partition.
func (m *model) apply(events []consumers.Event) {
	for i := range events {
		ev := &events[i]
		if _, ok := m.quarantined[ev.Key]; ok {
			m.letters = append(m.letters, ev.Offset)
			continue
		}
		if ev.Err != nil || ev.Type == typeRefused {
			m.letters = append(m.letters, ev.Offset)
			if ev.Key != "" {
				m.quarantined[ev.Key] = ev.Offset
			}
			continue
		}
		m.events = append(m.events, *ev)
		m.fold(EntityLedger, foldLedger, ev)
		m.fold(EntityTally, foldTally, ev)
	}
}

func (m *model) fold(entity string, f func(projection.State, *consumers.Event) (projection.State, error), ev *consumers.Event) {
	prev, known := m.states[entity][ev.Key]
	next, err := f(prev.State, ev)
	if err != nil {
		panic("sinktest: the model cannot fold " + ev.ID + ": " + err.Error())
	}
	if known || next.Exists {
		m.states[entity][ev.Key] = fold.Stored{State: next, Version: ev.Seq, EventID: ev.ID, Time: ev.Time}
	}
}

// visible returns the states that exist.
func (m *model) visible(entity string) map[string]fold.Stored {
	all := map[string]fold.Stored{}
	for k, s := range m.states[entity] {
		if s.Exists {
			all[k] = s
		}
	}
	return all
}
