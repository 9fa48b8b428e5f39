package backfill

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/store"
)

// State is how far a backfill has come.
type State struct {
	Name string `json:"name"`
	// State is running, stopped or finished.
	State string `json:"state"`
	Rows  int64  `json:"rows"`
	// Total is how many rows there were when it began; below zero if that is not known.
	Total int64 `json:"total"`
	// Position is the key of the last row that was read.
	Position   []string  `json:"position,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// List returns the backfills that have begun, by name.
func List(ctx context.Context, conn *pgx.Conn, schema string) ([]State, error) {
	b, err := store.NewBackfills(schema)
	if err != nil {
		return nil, err
	}
	rows, err := b.List(ctx, conn)
	if store.NoBackfills(err) {
		return nil, ErrNotMigrated
	}
	if err != nil {
		return nil, fmt.Errorf("read how far backfills are: %w", err)
	}
	all := make([]State, len(rows))
	for i, s := range rows {
		all[i] = State{s.Name, "finished", s.Rows, s.Total, s.Position, s.StartedAt, s.UpdateAt, s.FinishedAt}
		if !s.FinishedAt.IsZero() {
			continue
		}
		running, err := b.Running(ctx, conn, s.Name)
		if err != nil {
			return nil, fmt.Errorf("ask whether backfill %s runs: %w", s.Name, err)
		}
		if all[i].State = "stopped"; running {
			all[i].State = "running"
		}
	}
	return all, nil
}

// Reset forgets a backfill, so that it begins anew, and says whether there was anything to forget. The events that it wrote stay.
func Reset(ctx context.Context, conn *pgx.Conn, schema, name string) (bool, error) {
	b, err := store.NewBackfills(schema)
	if err != nil {
		return false, err
	}
	if err := lock(ctx, b, conn, name); err != nil {
		return false, fmt.Errorf("backfill %s: %w", name, err)
	}
	did, err := b.Reset(ctx, conn, name)
	if err == nil {
		err = b.Unlock(ctx, conn, name)
	}
	if store.NoBackfills(err) {
		return false, ErrNotMigrated
	}
	return did, err
}
