package dlq

import (
	"context"

	"github.com/millrace/millrace/consumers"
)

// Fate is what became of an event that was put aside.
type Fate int

const (
	// FateNone is that of an event that was never put aside.
	FateNone Fate = iota
	// FatePending: it waits.
	FatePending
	// FateApplied: it was applied after all.
	FateApplied
	// FateDropped: somebody gave it up.
	FateDropped
	// FateDroppedIfPoison: it was given up if it could not be applied, and applied otherwise.
	FateDroppedIfPoison
)

// Fates gives every event that was ever put aside to f, and what became of it, the last word last: an event may come several times. An error of f ends it and is returned.
func (d *Desk) Fates(ctx context.Context, f func(tp consumers.TopicPartition, offset int64, fate Fate) error) error {
	g, err := d.ledger(ctx)
	if err != nil {
		return err
	}
	return consumers.ScanLetters(ctx, d.kafka, d.sink, func(l consumers.Letter) error {
		return f(l.TopicPartition, l.Offset, g.fate(&l))
	})
}

// fate says what became of a letter's event.
func (g *ledger) fate(l *consumers.Letter) Fate {
	if g.pending(l) {
		return FatePending
	}
	for _, a := range g.drops[placeOf(l)] {
		if l.HasKey() && (l.Offset < a.From || l.Offset >= a.Below) {
			continue
		}
		switch {
		case a.Drop == consumers.DropFirst && l.HasKey() && l.Offset != a.From:
		case a.Drop == consumers.DropFirst, a.Drop == consumers.DropAll && a.Applied == 0:
			return FateDropped
		default:
			return FateDroppedIfPoison
		}
	}
	return FateApplied
}
