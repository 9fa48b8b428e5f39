package outbox

import (
	"context"

	"github.com/millrace/millrace/schemas"
)

// Checker says what Write would refuse, without a database.
type Checker struct{ o *Outbox }

// NewChecker makes a checker of the event types of a catalogue. Of opts, WithLimits and WithHeaders matter.
func NewChecker(catalogue *schemas.Catalogue, opts ...Option) (*Checker, error) {
	o, err := prepare(catalogue, opts)
	if err != nil {
		return nil, err
	}
	return &Checker{o}, nil
}

// Check returns the *EventError that Write would return for the first event that is not acceptable; nil if all are.
func (c *Checker) Check(ctx context.Context, events ...Event) error {
	_, err := c.o.encode(ctx, events)
	return err
}
