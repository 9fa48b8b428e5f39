package store

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Examine returns everything for which NewReader would refuse the outbox in the named database schema, where NewReader stops at the
// first: a person who sets one up mends it in one go. Whether the server itself is fit it does not say.
func Examine(ctx context.Context, conn *pgx.Conn, schema string) ([]*SetupError, error) {
	if _, err := dbtx.Quote(schema); err != nil {
		return nil, err
	}
	schema = cmp.Or(schema, dbtx.DefaultSchema)
	var found []*SetupError
	for _, check := range outboxChecks {
		err := check(ctx, conn, schema)
		var setup *SetupError
		switch {
		case errors.As(err, &setup):
			found = append(found, setup)
		case err != nil && len(found) > 0:
			return found, nil // without a privilege that was found missing more cannot be seen
		case err != nil:
			return nil, err
		}
		if errors.Is(err, ErrNotMigrated) {
			return found, nil // the rest would say no more than that
		}
	}
	return found, nil
}
