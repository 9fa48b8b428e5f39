package rebuild

import "context"

// feasible says why a rebuild cannot be begun; nil if it can.
func (j *Job) feasible(context.Context, Options) error { return nil }

// head begins what comes before the log.
func (j *Job) head(context.Context, *work) error { return nil }
