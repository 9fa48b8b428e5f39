package dlq

import (
	"cmp"

	"github.com/millrace/millrace/consumers"
)

// place names a key of a partition, or an event without a key by its offset.
type place struct {
	consumers.TopicPartition
	key    string
	offset int64
}

func placeOf(l *consumers.Letter) place {
	if l.HasKey() {
		return place{TopicPartition: l.TopicPartition, key: l.Key}
	}
	return place{TopicPartition: l.TopicPartition, offset: l.Offset}
}

// ledger is what the control topic says.
type ledger struct {
	settled map[place]consumers.Answer
	asked   map[place]string             // the request that is not answered
	drops   map[place][]consumers.Answer // those that gave something up
}

func newLedger() *ledger {
	return &ledger{settled: map[place]consumers.Answer{}, asked: map[place]string{}, drops: map[place][]consumers.Answer{}}
}

// take takes a record of the control topic in; what is none is left out.
func (g *ledger) take(value []byte) {
	q, a, err := consumers.ReadControl(value)
	switch {
	case err != nil, q != nil && q.Repair, a != nil && a.Repair: // no letter's business
	case q != nil:
		g.asked[about(q.TopicPartition(), q.Key, q.From)] = q.ID
	case a.Outcome != consumers.Underway:
		p := about(a.TopicPartition(), a.Key, a.From)
		if g.asked[p] == a.ID {
			delete(g.asked, p)
		}
		if a.Dropped > 0 {
			g.drops[p] = append(g.drops[p], *a)
		}
		if a.Outcome == consumers.Failed {
			a.Below, a.Place = g.settled[p].Below, g.settled[p].Place
		}
		g.settled[p] = *a
	}
}

func about(tp consumers.TopicPartition, key string, from int64) place {
	if key != "" {
		from = 0
	}
	return place{TopicPartition: tp, key: key, offset: from}
}

// pending says whether a letter was neither applied nor dropped. What was written after an answer counts anew.
func (g *ledger) pending(l *consumers.Letter) bool {
	a, ok := g.settled[placeOf(l)]
	if !ok {
		return true
	}
	below := a.Below
	if !l.HasKey() && a.Outcome == consumers.Done {
		below = l.Offset + 1
	}
	return l.Offset >= below || l.Place >= a.Place
}

// tell adds to a letter what was learned when somebody tried to apply it.
func (g *ledger) tell(l *consumers.Letter) {
	a, ok := g.settled[placeOf(l)]
	if ok && a.Outcome == consumers.Stuck && a.Below == l.Offset {
		l.Class, l.Reason = consumers.LetterPoison, cmp.Or(a.Detail, l.Reason)
	}
}
