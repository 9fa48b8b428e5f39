package store

import "fmt"

// Source is what a database says of itself in the statement that takes a snapshot. The cursor keeps the one of its
// last committed window; Check compares.
type Source struct {
	// SystemID is the cluster's identifier, fixed at initdb; file copies and standbys share it.
	SystemID string
	// Timeline comes from the name of the current WAL file; 0 on a standby.
	Timeline uint32
	// InRecovery is true on a standby.
	InRecovery bool
	// LSN is the WAL insert position; 0 on a standby.
	LSN uint64
	// Xmax is the snapshot's: the transaction counter, more or less.
	Xmax uint64
}

// Check compares what the database says now with what it said in the cursor's last committed (and so flushed) window, and
// returns a *SourceError that says what happened and what to do, or nil. A zero previous only checks for a standby.
func Check(previous, now Source) error {
	fail := func(sentinel error, remedy, format string, args ...any) error {
		return &SourceError{Err: sentinel, Previous: previous, Now: now, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	if now.InRecovery {
		return fail(ErrStandby, "point the relay at the primary", "system %s is in recovery", now.SystemID)
	}
	if previous == (Source{}) {
		return nil
	}
	const reanchor = "if this database is meant to go on, the relay must be re-anchored to it"
	switch {
	case now.SystemID != previous.SystemID:
		return fail(ErrOtherSystem, "check the connection; "+reanchor, "system identifier %s, the cursor has %s", now.SystemID, previous.SystemID)
	case now.Timeline != previous.Timeline:
		return fail(ErrOtherTimeline, "a standby was promoted or a backup restored; "+reanchor, "timeline %d, the cursor has %d", now.Timeline, previous.Timeline)
	case now.LSN < previous.LSN:
		return fail(ErrRestored, "a backup or volume snapshot was restored; "+reanchor, "WAL position %s, the cursor has %s", FormatLSN(now.LSN), FormatLSN(previous.LSN))
	case now.Xmax < previous.Xmax:
		return fail(ErrRestored, "a backup or volume snapshot was restored; "+reanchor, "next transaction %d, the cursor has %d", now.Xmax, previous.Xmax)
	}
	return nil
}

// FormatLSN writes a WAL position as Postgres does, such as "16/B374D848".
func FormatLSN(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)) }
