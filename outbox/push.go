package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/schemas"
)

// StoredSchema is a schema in the outbox.
type StoredSchema struct {
	schemas.Schema
	// CreatedAt is when it was stored first.
	CreatedAt time.Time
	// Current says that emit() gives it to new events of its name. That is the one of the name that was stored last.
	Current bool
}

// Push stores the schemas of a catalogue that are not stored yet, in a transaction of its own, and returns those it
// stored. Each of them becomes the current one of its name for emit().
//
// A schema that was stored before is left alone, and does not become current again: otherwise an old program that
// starts again in the middle of a deployment would turn emit() back to its older schema.
//
// Any number of programs may push at the same time. Of opts, only WithSchema matters here.
func Push[DB Database](ctx context.Context, db DB, catalogue *schemas.Catalogue, opts ...Option) ([]*schemas.Schema, error) {
	var cfg options
	for _, opt := range opts {
		opt(&cfg)
	}
	var added []*schemas.Schema
	err := dbtx.Run(ctx, db, func(tx dbtx.Tx) error {
		var err error
		added, err = store.PutSchemas(ctx, tx, cfg.schema, catalogue.All())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: push schemas: %w", explain(err))
	}
	return added, nil
}

// List returns the schemas in the outbox, by name and from the oldest to the newest. Of opts, only WithSchema
// matters here.
func List[DB Database](ctx context.Context, db DB, opts ...Option) ([]StoredSchema, error) {
	var cfg options
	for _, opt := range opts {
		opt(&cfg)
	}
	var list []StoredSchema
	err := dbtx.Run(ctx, db, func(tx dbtx.Tx) error {
		rows, err := store.ListSchemas(ctx, tx, cfg.schema)
		for _, r := range rows {
			list = append(list, StoredSchema(r))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: list schemas: %w", explain(err))
	}
	return list, nil
}

// explain says what to do where the tables are missing.
func explain(err error) error {
	if missingTables(err) {
		return fmt.Errorf("%w (%w)", ErrNotMigrated, err)
	}
	return err
}
