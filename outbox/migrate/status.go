package migrate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// State is what a database knows of one migration.
type State struct {
	Migration
	// AppliedAt is when it was applied; zero if it is pending.
	AppliedAt time.Time `json:"applied_at,omitzero"`
	// Changed says that the text applied was another than this program's.
	Changed bool `json:"changed,omitempty"`
	// Unknown says that the database has it and this program, which is older, does not.
	Unknown bool `json:"unknown,omitempty"`
}

// Pending says that the migration has not been applied.
func (s State) Pending() bool { return s.AppliedAt.IsZero() }

// Status returns every migration that this program or the database knows, by version. It changes nothing.
func Status[DB Database](ctx context.Context, db DB, opts ...Option) ([]State, error) {
	set, err := load(opts)
	if err != nil {
		return nil, err
	}
	var applied map[int]State
	err = dbtx.Run(ctx, db, func(tx dbtx.Tx) error {
		var err error
		applied, _, err = set.readApplied(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("migration status of %s: %w", set.quoted, err)
	}
	return set.merge(applied), nil
}

func (s *set) merge(applied map[int]State) []State {
	var states []State
	for _, f := range s.files {
		st := State{Migration: f.Migration}
		if row, ok := applied[f.Version]; ok {
			st.AppliedAt = row.AppliedAt
			st.Changed = row.Checksum != f.Checksum
			delete(applied, f.Version)
		}
		states = append(states, st)
	}
	for _, row := range applied {
		row.Unknown = true
		states = append(states, row)
	}
	slices.SortFunc(states, func(a, b State) int { return cmp.Compare(a.Version, b.Version) })
	return states
}

// readApplied returns the rows of the table migration by version, and whether there is such a table.
func (s *set) readApplied(ctx context.Context, tx dbtx.Tx) (map[int]State, bool, error) {
	// Not to_regclass: it may answer from a cache what was so before we waited for the lock.
	var exists bool
	err := tx.Query(ctx, func(scan func(...any) error) error { return scan(&exists) }, `
		select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		                where n.nspname = $1::text and c.relname = 'migration')`, s.schema)
	if err != nil || !exists {
		return nil, false, err
	}
	applied := map[int]State{}
	err = tx.Query(ctx, func(scan func(...any) error) error {
		var st State
		if err := scan(&st.Version, &st.Name, &st.Checksum, &st.AppliedAt); err != nil {
			return err
		}
		applied[st.Version] = st
		return nil
	}, "select version, name, checksum, applied_at from "+s.quoted+".migration")
	return applied, true, err
}

// SQL returns the migrations newer than version after as a script, for those who apply schema changes with tools
// of their own; 0 means all of them. Applied that way, they count as applied for Up and Status.
func SQL(after int, opts ...Option) (string, error) {
	set, err := load(opts)
	if err != nil {
		return "", err
	}
	if after < 0 || after > len(set.files) {
		return "", fmt.Errorf("no migration %d: versions are 1 to %d", after, len(set.files))
	}
	var b strings.Builder
	for _, f := range set.files[after:] {
		fmt.Fprintf(&b, "-- %s\nbegin;\n", f.Migration)
		if f.Version == 1 {
			b.WriteString(set.bookkeeping)
		}
		fmt.Fprintf(&b, "%s\ninsert into %s.migration (version, name, checksum) values (%d, '%s', '%s');\ncommit;\n\n",
			f.sql, set.quoted, f.Version, f.Name, f.Checksum)
	}
	return b.String(), nil
}
