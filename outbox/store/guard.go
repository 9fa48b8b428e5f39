package store

import (
	"fmt"
	"strconv"
	"strings"
)

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
	// Xmax is the snapshot's: one more than the highest transaction that had completed.
	Xmax uint64
}

// Check compares what the database says now with what it said in the cursor's last committed window, and returns a
// *SourceError that says what happened and what to do, or nil. The relay does this in every poll. A zero previous
// only refuses a standby. previous must come from a window that passed the flush gate: positions that were not
// flushed do go back in an ordinary crash.
func Check(previous, now Source) error {
	fail := func(sentinel error, remedy, format string, args ...any) error {
		return &SourceError{Err: sentinel, Previous: previous, Now: now, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	switch {
	case now.InRecovery:
		return fail(ErrStandby, "point the relay at the primary", "system %s is in recovery", now.SystemID)
	case previous == (Source{}):
		return nil
	case now.SystemID != previous.SystemID:
		return fail(ErrOtherSystem, "check the connection; "+reanchor,
			"system identifier %s, the cursor has %s", now.SystemID, previous.SystemID)
	case now.Timeline != previous.Timeline:
		return fail(ErrOtherTimeline, "a standby was promoted or a backup restored; "+reanchor,
			"timeline %d, the cursor has %d", now.Timeline, previous.Timeline)
	case now.LSN < previous.LSN:
		return fail(ErrRestored, olderCopy, "WAL position %s, the cursor has %s", FormatLSN(now.LSN), FormatLSN(previous.LSN))
	case now.Xmax < previous.Xmax:
		return fail(ErrRestored, olderCopy, "next transaction %d, the cursor has %d", now.Xmax, previous.Xmax)
	}
	return nil
}

const olderCopy = "a backup or an older copy of the volume is running; " + reanchor

// restored is ErrRestored for a database that does not look older any more.
func restored(previous, now Source, format string, args ...any) error {
	return &SourceError{Err: ErrRestored, Previous: previous, Now: now, Detail: fmt.Sprintf(format, args...), Remedy: olderCopy}
}

const reanchor = "if the relay is to follow this database from now on, run `millrace relay re-anchor` (--dry-run shows what it would do)"

func diverged(format string, args ...any) error {
	return &SourceError{Err: ErrDiverged, Detail: fmt.Sprintf(format, args...), Remedy: reanchor}
}

// FormatLSN writes a WAL position as Postgres does, such as "16/B374D848".
func FormatLSN(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)) }

// ParseLSN reads a WAL position as Postgres writes it.
func ParseLSN(text string) (uint64, error) {
	high, low, ok := strings.Cut(text, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%.40q is not a WAL position", text)
	}
	return h<<32 | l, nil
}

// timelineOf reads the timeline out of the name of a WAL file: its first eight hexadecimal digits. The control file
// would still show the old one just after a promotion.
func timelineOf(walFile string) (uint32, error) {
	if len(walFile) != 24 {
		return 0, fmt.Errorf("%.40q is not the name of a WAL file", walFile)
	}
	timeline, err := strconv.ParseUint(walFile[:8], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not the name of a WAL file", walFile)
	}
	return uint32(timeline), nil
}
