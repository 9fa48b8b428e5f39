package relay

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/internal/conf"
)

// Retention says when published rows leave the outbox: when they are older than Age, or when the table is larger than Size,
// whichever comes first; what is zero does not count, and if both are, everything stays. Rows that are not published never
// leave. What is retained is what can be replayed.
//
// Rows leave a leaf at a time. The ids of new events go to the next leaf after a sixth of Age or of Size, so that with eight
// leaves one is empty when the oldest falls due. A row stays for Age at least and for a sixth longer at most, a table of
// constant load takes seven sixths of Size at most.
type Retention struct {
	// Age is counted from when a leaf was left: by then each of its rows was written. Forever is the same as zero.
	Age time.Duration `yaml:"age"`
	// Size is that of the table with its indexes.
	Size conf.Size `yaml:"size"`
}

// UnmarshalYAML also takes a duration alone: retention: 7d.
func (p *Retention) UnmarshalYAML(unmarshal func(any) error) error {
	var age time.Duration
	err := unmarshal(&age)
	if err == nil {
		p.Age = age
		return nil
	}
	var raw any
	if unmarshal(&raw) == nil {
		if _, ok := raw.(map[string]any); !ok {
			return err
		}
	}
	type plain Retention
	return unmarshal((*plain)(p))
}

// DurationAlone implements conf.DurationAlone.
func (*Retention) DurationAlone() {}

var _ conf.DurationAlone = (*Retention)(nil)

// shares is how many leaves' worth of rows is retained.
const shares = store.LeafCount - 2

// on says whether anything is ever to leave.
func (p Retention) on() bool { return p.Age > 0 || p.Size > 0 }

// plan is what is to be done with the leaves.
type plan struct {
	// empty are the leaves to be emptied, oldest first.
	empty []int
	// turn says that new events are to go to the next leaf.
	turn bool
	// delayed says why a leaf that is due stays.
	delayed string
}

// plan decides. last is the committed cursor's: rows that it does not see are not published, whatever upper sees.
func (p Retention) plan(r *store.Ring, last store.Snapshot, pinned func(leaf int) int) plan {
	var out plan
	total := size(r)
	for n := store.LeafCount - 1; n > 0; n-- {
		number := r.Before(n)
		leaf := &r.Leaves[number]
		if leaf.NewestXid == 0 || leaf.Left.IsZero() || !p.due(leaf, r.Now, total) {
			continue
		}
		if why := stays(r, number, last, pinned); why != "" {
			if out.delayed == "" {
				out.delayed = why
			}
			continue
		}
		out.empty = append(out.empty, number)
		total -= leaf.Bytes
	}
	current := &r.Leaves[r.Current()]
	out.turn = current.NewestXid != 0 && (p.Age > 0 && r.Now.Sub(current.Entered) >= p.Age/shares ||
		p.Size > 0 && current.Bytes >= int64(p.Size)/shares)
	return out
}

func (p Retention) due(leaf *store.Leaf, now time.Time, total int64) bool {
	return p.Age > 0 && now.Sub(leaf.Left) >= p.Age || p.Size > 0 && total > int64(p.Size)
}

// before is the time that a leaf must have been left before, for the database to check it again. A leaf that is due for its
// size may have been left just now.
func (p Retention) before(leaf *store.Leaf, now time.Time) time.Time {
	if p.Age > 0 && now.Sub(leaf.Left) >= p.Age {
		return now.Add(-p.Age).Add(time.Microsecond)
	}
	return now
}

// stays says what a leaf is still needed for. The database looks again under the leaf's lock.
//
// Promise 1: rows that are not published, or whose contents are nowhere else, do not leave.
func stays(r *store.Ring, number int, last store.Snapshot, pinned func(leaf int) int) string {
	if n := pinned(number); n > 0 {
		return fmt.Sprintf("leaf %d holds %d parked events whose contents are in the table only: release or discard them", number, n)
	}
	if !last.Sees(r.Leaves[number].NewestXid) {
		return unpublished(number)
	}
	return ""
}

func unpublished(number int) string {
	return fmt.Sprintf("leaf %d holds events that are not published yet", number)
}

// size is that of the whole table.
func size(r *store.Ring) int64 {
	var n int64
	for i := range r.Leaves {
		n += r.Leaves[i].Bytes
	}
	return n
}
