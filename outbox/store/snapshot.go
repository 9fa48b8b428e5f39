package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxSnapshotXids bounds the number of running transactions a snapshot may list. Postgres cannot have more than
// max_connections + max_prepared_transactions, each at most 262,143.
const MaxSnapshotXids = 1 << 20

// Snapshot is a pg_snapshot: which transactions had completed at one instant. Transactions from Xmax on had not, nor
// those in Xip, which lie in [Xmin, Xmax) and are sorted; all others had. The zero Snapshot has seen nothing: as
// `last` it stands before the first event.
type Snapshot struct {
	Xmin uint64
	Xmax uint64
	Xip  []uint64
}

// ParseSnapshot reads the text form of a pg_snapshot, "xmin:xmax:xip,xip,...", and refuses what Postgres would
// refuse: an xmin above xmax, a list that is not ascending or not within [xmin, xmax), a zero.
func ParseSnapshot(text string) (Snapshot, error) {
	bad := func(why string) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("snapshot %.60q: %s", text, why)
	}
	minText, rest, ok := strings.Cut(text, ":")
	if !ok {
		return bad("want xmin:xmax:xip-list")
	}
	maxText, list, ok := strings.Cut(rest, ":")
	if !ok {
		return bad("want xmin:xmax:xip-list")
	}
	var s Snapshot
	var err error
	if s.Xmin, err = parseXid(minText); err != nil {
		return bad(err.Error())
	}
	if s.Xmax, err = parseXid(maxText); err != nil {
		return bad(err.Error())
	}
	if s.Xmin > s.Xmax {
		return bad("xmin is above xmax")
	}
	if list == "" {
		return s, nil
	}
	n := strings.Count(list, ",") + 1
	if n > MaxSnapshotXids {
		return bad("too many transactions")
	}
	s.Xip = make([]uint64, 0, n)
	previous := uint64(0)
	for item := range strings.SplitSeq(list, ",") {
		xid, err := parseXid(item)
		if err != nil {
			return bad(err.Error())
		}
		if xid < s.Xmin || xid >= s.Xmax {
			return bad("a listed transaction is not within [xmin, xmax)")
		}
		if xid <= previous {
			return bad("the listed transactions do not ascend")
		}
		previous = xid
		s.Xip = append(s.Xip, xid)
	}
	return s, nil
}

// parseXid reads a 64-bit transaction id: decimal digits without sign or leading zero, as Postgres prints them.
func parseXid(text string) (uint64, error) {
	if len(text) == 0 || len(text) > 20 || text[0] < '1' || text[0] > '9' {
		return 0, fmt.Errorf("%.30q is not a transaction id", text)
	}
	xid, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.30q is not a transaction id", text)
	}
	return xid, nil
}

// String returns the text form that Postgres and ParseSnapshot read; the zero Snapshot has none and gives "".
func (s Snapshot) String() string {
	if s.IsZero() {
		return ""
	}
	b := make([]byte, 0, 44+20*len(s.Xip))
	b = strconv.AppendUint(b, s.Xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.Xmax, 10)
	b = append(b, ':')
	for i, xid := range s.Xip {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return string(b)
}

// IsZero reports whether s is the zero Snapshot, which has seen nothing.
func (s Snapshot) IsZero() bool { return s.Xmax == 0 }

// Equal reports whether the two snapshots see the same transactions.
func (s Snapshot) Equal(t Snapshot) bool {
	return s.Xmin == t.Xmin && s.Xmax == t.Xmax && slices.Equal(s.Xip, t.Xip)
}

// Sees reports whether the transaction had completed: pg_visible_in_snapshot(xid, s).
func (s Snapshot) Sees(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}
