package relay

import (
	"context"

	"github.com/millrace/millrace/outbox/store"
)

// Standing is how an outbox stands, as Postgres and Kafka say it: no relay is asked.
type Standing struct {
	Progress
	// Leader is the database session of the relay that leads; nil if none does.
	Leader *store.Session `json:"leader"`
	// Asked says that a request waits for the relay, or is being carried out: its id, 0 for none.
	Asked int64 `json:"request,omitempty"`
}

// Stand tells how an outbox stands.
func Stand(ctx context.Context, cfg Config) (Standing, error) {
	progress, err := Inspect(ctx, cfg)
	s := Standing{Progress: progress}
	if err != nil {
		return s, err
	}
	conn, err := lookIn(ctx, cfg.Postgres)
	if err != nil {
		return s, err
	}
	defer closeConn(conn)
	if s.Leader, err = store.WhoLeads(ctx, conn, cfg.Schema); err != nil {
		return s, err
	}
	wanted, err := store.LookForRequests(ctx, conn, cfg.Schema, 0)
	if store.NoRequests(err) {
		return s, nil
	}
	if wanted.Work != nil {
		s.Asked = wanted.Work.ID
	}
	return s, err
}
