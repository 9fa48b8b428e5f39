package store

import "errors"

// What NewReader returns (wrapped in a *SetupError that says what to do) when it refuses to read from a database.
var (
	// ErrVersion: the server is older than PostgreSQL 14.
	ErrVersion = errors.New("PostgreSQL is too old")
	// ErrFsyncOff: the server runs with fsync=off, so that what is flushed can still be lost.
	ErrFsyncOff = errors.New("fsync is off")
	// ErrNotMigrated: the outbox's tables are not there.
	ErrNotMigrated = errors.New("the outbox is not there")
	// ErrSequence: the sequence that ids come from has a cache, or does not ascend; ids would not follow commits.
	ErrSequence = errors.New("the id sequence is unfit")
	// ErrIndex: one of the two indexes a poll needs is missing or not valid.
	ErrIndex = errors.New("an index is missing or not valid")
	// ErrUnlogged: the table, or a leaf of it, is unlogged and would be empty after a crash.
	ErrUnlogged = errors.New("the outbox is unlogged")
	// ErrPooler: the connection goes through a pooler that shares server processes between transactions.
	ErrPooler = errors.New("a transaction pooler is in between")
	// ErrPrivilege: the role may not read what the relay must read.
	ErrPrivilege = errors.New("a privilege is missing")
)

// What Check, NewReader and Reader.VerifyRow return (wrapped in a *SourceError) when the database is not, or no
// longer, the one the cursor was taken from. The relay stops: going on would lose or repeat events.
var (
	// ErrStandby: the server is in recovery. Its snapshots do not list running transactions.
	ErrStandby = errors.New("the database is a standby")
	// ErrOtherSystem: the system identifier is another: this is a different cluster, or one restored from a logical
	// dump.
	ErrOtherSystem = errors.New("the database is another cluster")
	// ErrOtherTimeline: the timeline is another: a standby was promoted, or a backup restored to a point in time.
	ErrOtherTimeline = errors.New("the database is on another timeline")
	// ErrRestored: the WAL position or the transaction counter is below the cursor's: an older copy of the volume.
	ErrRestored = errors.New("the database went back in time")
	// ErrDiverged: the last published row is not in the table, or another row has its id.
	ErrDiverged = errors.New("the table does not hold the last published event")
)

var (
	// ErrNotFlushed is what Window.Advance returns before the flush gate has been passed.
	ErrNotFlushed = errors.New("the window is not flushed yet")
	// ErrVanished is what Reader.Page returns when rows of an open window are gone: somebody deleted or truncated
	// them.
	ErrVanished = errors.New("rows of the window have vanished")
	// ErrNoSchema is what Reader.Schema returns for a fingerprint the outbox does not hold.
	ErrNoSchema = errors.New("the outbox holds no schema of this fingerprint")
	// ErrStartedElsewhere is what MarkStarted returns when a different first start is already recorded.
	ErrStartedElsewhere = errors.New("a relay was started with another Kafka cluster or cursor topic")
	// ErrNotLeader is what Leader.Touch returns when the session no longer holds the lock.
	ErrNotLeader = errors.New("the session does not hold the relay lock")
)

// SetupError is a reason not to start reading, and the remedy.
type SetupError struct {
	Err    error  // one of the sentinels above
	Detail string // what was found
	Remedy string // what the operator should do
}

// Error says what was found and what to do.
func (e *SetupError) Error() string { return e.Err.Error() + ": " + e.Detail + "; " + e.Remedy }

// Unwrap returns the sentinel.
func (e *SetupError) Unwrap() error { return e.Err }

// SourceError says that the database is not the one that the cursor was taken from, and what to do.
type SourceError struct {
	Err           error // one of the sentinels above
	Previous, Now Source
	Detail        string // the two values that differ
	Remedy        string
}

// Error says what differs and what to do.
func (e *SourceError) Error() string { return e.Err.Error() + ": " + e.Detail + "; " + e.Remedy }

// Unwrap returns the sentinel.
func (e *SourceError) Unwrap() error { return e.Err }

// NeedsOperator reports whether err is one that no retry can cure: the database must be put right, or a person must
// decide. Anything else, a lost connection for example, may be retried on a new connection.
func NeedsOperator(err error) bool {
	var setup *SetupError
	var source *SourceError
	return errors.As(err, &setup) || errors.As(err, &source) || errors.Is(err, ErrStartedElsewhere) || errors.Is(err, ErrVanished)
}
