package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// VerifyOptions say how an outbox is compared with its topics. The zero value compares everything.
type VerifyOptions struct {
	// Sample compares one key in so many, chosen by a hash; 0 and 1 compare all. Turn says which of them: another number, other keys.
	Sample uint64
	Turn   uint64
	// Examples is the most differences, discards and so on that are named of a kind. Default 20.
	Examples int
	// Progress, if set, is told now and then how far it is.
	Progress func(Verifying)
}

// Verifying is how far a comparison is.
type Verifying struct {
	// Phase says what is read: "rows", "shop.orders/3".
	Phase string
	// Done of Total rows or offsets were read, of this phase and those before it.
	Done, Total int64
}

// Difference is how an event stands that is not in the outbox and in its topic alike.
type Difference string

const (
	// Missing: the outbox holds it, the cursor says that it was published, and its topic does not have it.
	Missing Difference = "missing"
	// Doubled: it is in its topic more than once.
	Doubled Difference = "doubled"
	// Changed: its record says something else than its row.
	Changed Difference = "changed"
	// Reordered: it came behind another of its key, and of its transaction, that has a higher id; or its version is lower than one before it.
	Reordered Difference = "reordered"
	// Unknown: it is in the topic, and the outbox never held it, or does not hold it any more though it should.
	Unknown Difference = "unknown"
	// Foreign: a record that no relay wrote: without an event's id, or a version.
	Foreign Difference = "foreign"
	// Withheld: it is parked, or was discarded, and is in its topic all the same.
	Withheld Difference = "withheld"
)

// DifferentEvent is a difference.
type DifferentEvent struct {
	Kind  Difference `json:"kind"`
	Topic string     `json:"topic"`
	Key   string     `json:"key"`
	// EventID is zero for a foreign record, Row and Xid are 0 for an event that the outbox does not hold.
	EventID uuid.UUID `json:"event_id,omitzero"`
	Row     int64     `json:"row,omitempty"`
	Xid     uint64    `json:"xid,omitempty"`
	// Offsets are where it is in its topic, as PARTITION/OFFSET, the first ones; Seq is the version of the first.
	Offsets []string `json:"offsets,omitempty"`
	Seq     int64    `json:"seq,omitempty"`
	// Since is when it occurred.
	Since time.Time `json:"since,omitzero"`
	// Detail says more.
	Detail string `json:"detail,omitempty"`
}

// Verified is what a comparison of an outbox with its topics has shown.
type Verified struct {
	Outbox string    `json:"outbox"`
	At     time.Time `json:"at"`
	// Seq is the version, and T the transaction, up to which both were compared: those of the cursor. Floor is the id that the retained
	// rows begin at.
	Seq   int64 `json:"seq"`
	T     int64 `json:"t"`
	Floor int64 `json:"floor"`
	// Sample is 1 if every key was compared, n if one in n was. OrderSample is the same of the order within keys.
	Sample      uint64 `json:"sample"`
	OrderSample uint64 `json:"order_sample"`
	// Partitions are the counts, of those that something was compared of.
	Partitions []VerifiedPartition `json:"partitions"`
	// Rows and Records were compared.
	Rows    int64 `json:"rows"`
	Records int64 `json:"records"`

	// What follows is no difference. Parked events wait; Discarded ones were dropped, DiscardedEvents names some.
	Parked          int64        `json:"parked"`
	Discarded       int64        `json:"discarded"`
	DiscardedEvents []*Discarded `json:"discarded_events,omitempty"`
	// Repeats are records that delivery at least once sent again; RepeatedAt names some.
	Repeats    int64    `json:"repeats"`
	RepeatedAt []string `json:"repeated_at,omitempty"`
	// Replayed are records that a replay marked.
	Replayed int64 `json:"replayed"`
	// Overtaken are events of a key that came behind one with a higher id of another transaction. That is as it should be if the key's
	// writers do not serialise, or if the event was parked by itself; OvertakenEvents names some.
	Overtaken       int64            `json:"overtaken"`
	OvertakenEvents []DifferentEvent `json:"overtaken_events,omitempty"`
	// BeyondTopic are rows as old as the beginning of a partition whose first records retention has taken, or older. BeyondOutbox are
	// records of rows that have left the outbox. Neither was compared.
	BeyondTopic  int64 `json:"beyond_topic"`
	BeyondOutbox int64 `json:"beyond_outbox"`
	// Moving were released, discarded or parked meanwhile, Later published meanwhile.
	Moving int64 `json:"moving"`
	Later  int64 `json:"later"`

	// Differences counts all, Kinds by kind; Events names some of each.
	Differences int64                `json:"differences"`
	Kinds       map[Difference]int64 `json:"kinds,omitempty"`
	Events      []DifferentEvent     `json:"events,omitempty"`
	// Notes say what could not be compared, and why.
	Notes []string      `json:"notes,omitempty"`
	Took  time.Duration `json:"took"`
}

// VerifiedPartition is one partition.
type VerifiedPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Rows belong there, Records from offset From up to End, exclusive, are theirs.
	Rows    int64 `json:"rows"`
	Records int64 `json:"records"`
	From    int64 `json:"from"`
	End     int64 `json:"end"`
}

// ErrMoved is what Verify returns when retention took, again and again, what was being compared.
var ErrMoved = errors.New("what was compared has left the outbox or the topics meanwhile")

// verifyTries is how often a comparison is begun anew because retention took something meanwhile.
const verifyTries = 3

// Verify compares an outbox with its topics, as far as both are retained and the outbox's cursor has come: each event must be in its
// topic once, say there what its row says, and stand in the order of its key; each record must come from a row. It needs no relay and
// disturbs none: Postgres is only read, in short statements, and Kafka read_committed. An error says that it could not be done, never
// that there are differences.
//
// Promises 1 and 3: an event is published if and only if its transaction committed, and once.
func Verify(ctx context.Context, cfg Config, opts VerifyOptions) (*Verified, error) {
	cfg = cfg.WithDefaults()
	opts.Sample = max(opts.Sample, 1)
	opts.Examples = cmp.Or(opts.Examples, 20)
	var err error
	for range verifyTries {
		v := newVerification(cfg, opts)
		err = v.all(ctx)
		v.close()
		if err == nil {
			return v.out, nil
		}
		if !errors.Is(err, ErrMoved) {
			break
		}
	}
	return nil, fmt.Errorf("verify outbox %s: %w", cfg.Outbox, err)
}
