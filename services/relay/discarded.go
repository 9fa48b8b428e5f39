package relay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// discardedVersion is the version of a record that says of an event that it was discarded. A relay that does not know it stops rather
// than to take the event for parked.
const discardedVersion = 2

// Discarded says of an event that an operator had it dropped. It is a record of the parked topic, under the event's id, and takes the
// place of what was parked there; compaction leaves it, so that whoever misses the event learns what became of it.
type Discarded struct {
	// V is the version of the record: 2.
	V int `json:"v"`
	// EventID, Topic and Key are the event's own; of a text above 8 KiB the beginning is kept, and its hash.
	EventID uuid.UUID `json:"event_id"`
	Topic   string    `json:"topic"`
	Key     string    `json:"key"`
	// Reason says why it was parked.
	Reason Reason `json:"reason"`
	// At is when it was discarded, By who asked, and Why their words; empty if they gave none.
	At  time.Time `json:"at"`
	By  string    `json:"by"`
	Why string    `json:"why,omitempty"`
	// Request is the request that it was discarded for.
	Request int64 `json:"request"`
}

// discarded makes the record that takes a discarded event off the parked topic.
//
// Promise 7: nothing is dropped silently: what was, when, by whom and why stays on record.
func (c *clerk) discarded(q *queue, h *held, j *job, at time.Time) (*kgo.Record, error) {
	r := tombstone(parkedTopic(c.cfg.Outbox), h.id, j.id, DoneDiscarded)
	var err error
	r.Value, err = json.Marshal(Discarded{
		V: discardedVersion, EventID: h.id, Topic: q.topic, Key: q.key, Reason: h.reason, At: at.UTC(), By: shorten(j.by), Why: shorten(j.why), Request: j.id,
	})
	if err != nil {
		return nil, fmt.Errorf("record that event %s is discarded: %w", h.id, err)
	}
	return r, nil
}

// decodeDiscarded reads the record by which an event was discarded. It is nil for one by which an event was released, or which says
// nothing. Of what older relays discarded it knows the request only.
func decodeDiscarded(r *kgo.Record) *Discarded {
	if len(r.Value) > 0 {
		var d Discarded
		if len(r.Value) > 2*maxParkedBytes || json.Unmarshal(r.Value, &d) != nil || d.V != discardedVersion {
			return nil
		}
		return &d
	}
	id, err := uuid.ParseBytes(r.Key)
	if err != nil || headerOf(r, headerDone) != string(DoneDiscarded) {
		return nil
	}
	request, _ := strconv.ParseInt(headerOf(r, headerRequest), 10, 64)
	return &Discarded{EventID: id, At: r.Timestamp.UTC(), Request: request}
}

// String says it in a line.
func (d *Discarded) String() string {
	text := "discarded"
	if d.By != "" {
		text += " by " + d.By
	}
	text += " at " + d.At.UTC().Format(time.RFC3339)
	if d.Reason != "" {
		text += ", parked for " + string(d.Reason)
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	return text
}
