package relay

import (
	"time"

	"github.com/millrace/millrace/outbox/store"
)

// anchoring says how far re-anchoring has come. It stands in the cursor, so that what fences relays fences re-anchoring too,
// and so that a relay that starts in the middle of it sees it.
type anchoring struct {
	// Begun is when it began.
	Begun time.Time
	// Judged says that every published row bears it in its xid: the old cursor is not asked about rows any more.
	Judged bool
	// Source is the database that is being anchored to. If it is another one when re-anchoring goes on, it begins again.
	Source store.Source
}

type anchoringJSON struct {
	Begun  time.Time  `json:"begun"`
	Judged bool       `json:"judged,omitempty"`
	Source sourceJSON `json:"source"`
}

func (a *anchoring) encode() *anchoringJSON {
	if a == nil {
		return nil
	}
	return &anchoringJSON{Begun: a.Begun.UTC(), Judged: a.Judged, Source: encodeSource(a.Source)}
}

func (j *anchoringJSON) decode() (*anchoring, error) {
	if j == nil {
		return nil, nil
	}
	source, err := j.Source.source()
	return &anchoring{Begun: j.Begun, Judged: j.Judged, Source: source}, err
}
