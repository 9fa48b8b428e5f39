package dlq

import (
	"time"

	"github.com/millrace/millrace/consumers"
)

// Filter chooses dead letters. The zero value chooses all that are pending.
type Filter struct {
	// Topic, Key, Type and Class are compared with the letter's; empty means any. Class is consumers.LetterPoison or
	// consumers.LetterQuarantined.
	Topic, Key, Type, Class string
	// Since and Until bound when the event was put aside: at Since or later, before Until. Zero means no bound.
	Since, Until time.Time
	// Settled adds letters that were applied or dropped since.
	Settled bool
}

// Any says whether the filter lets every pending letter pass.
func (f Filter) Any() bool {
	f.Settled = false
	return f == Filter{}
}

func (f Filter) match(l *consumers.Letter) bool {
	switch {
	case f.Topic != "" && f.Topic != l.Topic, f.Key != "" && f.Key != l.Key, f.Type != "" && f.Type != l.Type, f.Class != "" && f.Class != l.Class:
		return false
	case !f.Since.IsZero() && l.At.Before(f.Since), !f.Until.IsZero() && !l.At.Before(f.Until):
		return false
	}
	return true
}
