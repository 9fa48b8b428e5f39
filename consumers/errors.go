package consumers

import (
	"errors"
	"time"
)

// ErrFenced is what a sink returns to an owner whose epoch is no longer the partition's: another owner has claimed it.
// The lane stops; nothing it held was applied.
var ErrFenced = errors.New("partition is owned by a newer epoch")

// ErrPosition is what a sink returns when a batch does not start at the partition's stored position. The lane claims anew
// and goes on from there.
var ErrPosition = errors.New("batch does not start at the sink's position")

// Class says what an error means for the partition in which it happened.
type Class int

const (
	// Transient errors are retried with backoff; the partition waits. Unknown errors are transient: nothing is lost by default.
	Transient Class = iota
	// Systemic errors stop the sink: credentials refused, disk full, declaration and store do not match.
	Systemic
	// Poison concerns one record: it is dead-lettered and its key quarantined.
	Poison
)

type classed struct {
	class Class
	err   error
}

func (c *classed) Error() string { return c.err.Error() }
func (c *classed) Unwrap() error { return c.err }

// AsSystemic marks err as systemic. It returns nil for nil.
func AsSystemic(err error) error { return mark(Systemic, err) }

// AsPoison marks err as the fault of one record. It returns nil for nil.
func AsPoison(err error) error { return mark(Poison, err) }

func mark(c Class, err error) error {
	if err == nil {
		return nil
	}
	return &classed{class: c, err: err}
}

// Classify returns the class that err was marked with, the outermost mark first; Transient if there is none.
func Classify(err error) Class {
	var c *classed
	if errors.As(err, &c) {
		return c.class
	}
	return Transient
}

// delayed is an error that says when to try again.
type delayed struct {
	wait time.Duration
	err  error
}

func (d *delayed) Error() string { return d.err.Error() }
func (d *delayed) Unwrap() error { return d.err }

// RetryAfter says of a transient error that trying again before so long is no use: the lane's pause is at least that, or what it would
// be otherwise if that is longer. The caller bounds it. It returns nil for nil.
func RetryAfter(wait time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &delayed{wait: wait, err: err}
}

// Wait returns what RetryAfter said of err, the outermost first; 0 if nothing did.
func Wait(err error) time.Duration {
	var d *delayed
	if errors.As(err, &d) {
		return d.wait
	}
	return 0
}
