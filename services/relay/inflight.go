package relay

import (
	"time"

	"github.com/millrace/millrace/outbox/store"
)

// inFlight remembers when transactions that are at work were seen first. The zero value is ready.
type inFlight struct {
	seen map[uint64]time.Time
}

// oldest returns how long the oldest transaction has been at work, as the database tells it or as it was watched, whichever is
// longer: a role without pg_read_all_stats is not told of the transactions of others, but sees their ids.
func (f *inFlight) oldest(now store.InFlight, at time.Time) time.Duration {
	seen := make(map[uint64]time.Time, len(now.Xids))
	age := now.Oldest
	for _, xid := range now.Xids {
		first, ok := f.seen[xid]
		if !ok {
			first = at
		}
		seen[xid] = first
		age = max(age, at.Sub(first))
	}
	f.seen = seen
	return age
}
