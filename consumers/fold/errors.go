package fold

import "errors"

// ErrTooManyQuarantined stops a sink whose quarantine grows past its limit: so many bad keys are the fault of the declaration or of
// the writers, and putting everything aside would hide it. It is systemic. What was counted has not been put aside.
var ErrTooManyQuarantined = errors.New("too many keys to quarantine")

// errNotOwned is a fault of the caller: a batch of a partition that was not claimed, or was released.
var errNotOwned = errors.New("partition is not claimed")

// errNoKey makes an event poison that names no entity.
var errNoKey = errors.New("the record has no key that can name an entity")
