package relay

import (
	"context"
	"encoding/json"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stamp says who wrote a cursor record. Records of relays that only ever published exactly once have the zero stamp.
type stamp struct {
	// Epoch counts the relays that took the cursor over where transactional ids cannot shut out their predecessors.
	Epoch int64 `json:"epoch,omitempty"`
	// Writer is one relay between two starts, delivering at least once; empty when the record is one of a transaction.
	Writer string `json:"writer,omitempty"`
	// Claim says that the record was written at a start, to take the cursor over.
	Claim bool `json:"claim,omitempty"`
	// At is the offset where a claim lands if nothing was written since its writer read the log.
	At int64 `json:"at,omitempty"`
}

// reign goes through cursor records in the order of the log, and keeps the newest that counts.
//
// What was decided without knowing what came before it does not count: a record of a relay that was overtaken, and a claim
// behind which something else came to lie first. The relay whose claim it was sees that in the acknowledgement and writes
// nothing more; what the other announced in between stays announced.
type reign struct {
	stamp
	value []byte
}

func (r *reign) see(offset int64, value []byte) {
	s := stampOf(value)
	void := s.Epoch < r.Epoch || s.Claim && s.At != offset
	if !void {
		r.stamp, r.value = s, value
	}
}

// stampOf returns the zero stamp for what is no cursor record: if it is the newest, decodeCursor will say so.
func stampOf(value []byte) stamp {
	var s stamp
	if len(value) > maxCursorBytes || json.Unmarshal(value, &s) != nil {
		return stamp{}
	}
	return s
}

// newestCursor returns the newest cursor record that counts, reading backwards from the end in growing steps; nil if there is
// none. A claim may be void by what came before it: it is read on until something else is found.
func (l *partitionLog) newestCursor(ctx context.Context) ([]byte, error) {
	for step := int64(64); ; step *= 8 {
		from := max(l.start, l.end-step)
		var r reign
		err := l.scan(ctx, from, func(rec *kgo.Record) bool {
			if string(rec.Key) == cursorKey && rec.Value != nil {
				r.see(rec.Offset, rec.Value)
			}
			return true
		})
		if err != nil || from == l.start || r.value != nil && !r.Claim {
			return r.value, err
		}
	}
}
