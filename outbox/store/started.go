package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// First is the one row that records the first start of a relay on this outbox: where its cursor is kept. Once it is
// recorded, a missing or foreign cursor never means "from the beginning".
type First struct {
	// ClusterID is Kafka's cluster id.
	ClusterID string
	// CursorTopicID is the topic id of the cursor topic, in Kafka's own spelling.
	CursorTopicID string
}

// Started reads the record of the first start; ok is false if no relay was ever started on this outbox.
func Started(ctx context.Context, conn *pgx.Conn, schema string) (first First, ok bool, err error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return First{}, false, err
	}
	err = conn.QueryRow(ctx, `select cluster_id, cursor_topic_id from `+quoted+`.relay`).Scan(&first.ClusterID, &first.CursorTopicID)
	if errors.Is(err, pgx.ErrNoRows) {
		return First{}, false, nil
	}
	if err != nil {
		return First{}, false, fmt.Errorf("read the record of the relay's first start: %w", err)
	}
	return first, true, nil
}

// MarkStarted records the first start, durably whatever the session's synchronous_commit is. It may be repeated;
// ErrStartedElsewhere if another first start is recorded.
func MarkStarted(ctx context.Context, conn *pgx.Conn, schema string, first First) error {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local synchronous_commit = local`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into `+quoted+`.relay (cluster_id, cursor_topic_id) values ($1, $2) on conflict do nothing`,
			first.ClusterID, first.CursorTopicID)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the relay's first start: %w", err)
	}
	recorded, _, err := Started(ctx, conn, schema)
	if err != nil {
		return err
	}
	if recorded != first {
		return fmt.Errorf("%w: cluster %s, cursor topic %s; this one has cluster %s, cursor topic %s", ErrStartedElsewhere,
			recorded.ClusterID, recorded.CursorTopicID, first.ClusterID, first.CursorTopicID)
	}
	return nil
}
