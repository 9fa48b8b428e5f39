package store

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
)

// A pooler that gives a server process to others after each transaction is found, however many it has; one that keeps sessions
// apart will do.
func TestPooler(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	for _, c := range []struct {
		mode string
		size int
		want error
	}{{"transaction", 1, ErrPooler}, {"transaction", 4, ErrPooler}, {"statement", 2, ErrPooler}, {"session", 4, nil}} {
		t.Run(c.mode, func(t *testing.T) {
			dsn := harness.PgBouncer(t, db.DSN, c.mode, c.size)
			dial := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) }
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			err = CheckDirect(t.Context(), conn, dial)
			if c.want == nil {
				if err != nil {
					t.Errorf("a pool in %s mode was refused: %v", c.mode, err)
				}
				return
			}
			refused(t, err, c.want, "session mode")
		})
	}
	conn := db.Conn(t)
	err := CheckDirect(t.Context(), conn, func(context.Context) (*pgx.Conn, error) {
		t.Error("a direct connection was doubted")
		return pgx.Connect(t.Context(), db.DSN)
	})
	if err != nil {
		t.Error(err)
	}
}
