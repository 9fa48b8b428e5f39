package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// First is the one row that records the first start of a relay on this outbox: where its cursor is kept. Once it is
// recorded, a missing or foreign cursor never means "from the beginning".
type First struct {
	// ClusterID is Kafka's cluster id.
	ClusterID string
	// CursorTopicID is the topic id (a UUID in Kafka's own spelling) of the cursor topic.
	CursorTopicID string
}

// Started reads the record of the first start; ok is false if no relay was ever started on this outbox.
func Started(ctx context.Context, conn *pgx.Conn, schema string) (first First, ok bool, err error) {
	return First{}, false, errNotYet
}

// MarkStarted records the first start, durably. It is idempotent; ErrStartedElsewhere if another one is recorded.
func MarkStarted(ctx context.Context, conn *pgx.Conn, schema string, first First) error {
	return errNotYet
}
