package migrate

import (
	"errors"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// ErrServerTooOld is returned by Up on a server before PostgreSQL 14.
var ErrServerTooOld = errors.New("PostgreSQL 14 or newer is needed")

// ErrChanged is returned by Up if a migration was applied with another text than this program has: somebody edited
// it, or the tables belong to something else. Nothing is changed then.
var ErrChanged = errors.New("an applied migration differs from this program's")

// ErrInTransaction is returned if the *pgx.Conn is in the middle of a transaction: migrations commit by themselves.
var ErrInTransaction = dbtx.ErrInTransaction
