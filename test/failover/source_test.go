package failover

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// refused starts a relay that must end by itself, with the reason and the remedy, before it publishes anything.
func (w *world) refused(want error, remedy string) {
	w.t.Helper()
	r := w.relay()
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		w.t.Fatalf("the relay goes on: %+v", r.Status())
	}
	if !errors.Is(r.err, want) || !strings.Contains(r.err.Error(), remedy) || r.Ready() == nil {
		w.t.Errorf("the relay ended with: %v; want %v, and %q", r.err, want, remedy)
	}
	if s := r.Status(); s.Published > 0 {
		w.t.Errorf("it published: %+v", s)
	}
	w.t.Logf("refused: %v", r.err)
}

// A standby's snapshots do not list what is running on the primary.
func TestStandbyAsTheSourceIsRefused(t *testing.T) {
	t.Parallel()
	primary := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	w := newWorld(t, primary.DSN)
	w.write(20)
	standby := primary.Standby(t)
	standby.CatchUp(t, primary)
	w.dsn = standby.DSN
	w.refused(store.ErrStandby, "point the relay at the primary")
	if _, err := relay.ReAnchor(t.Context(), w.config(), relay.ReAnchorOptions{}); !errors.Is(err, store.ErrStandby) {
		t.Errorf("re-anchored to a standby: %v", err)
	}
	w.dsn = primary.DSN
	w.publishAll()
	w.check(nil, nil)
}

// Behind PgBouncer in transaction mode a session lock stays with a process that anybody gets: it would elect everybody, or nobody
// ever again. In session mode all is well.
func TestPgBouncerInTransactionModeIsRefused(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	w := newWorld(t, db.DSN)
	w.write(20)
	w.dsn = harness.PgBouncer(t, db.DSN, "transaction", 5)
	w.refused(store.ErrPooler, "session mode")
	if _, err := relay.ReAnchor(t.Context(), w.config(), relay.ReAnchorOptions{Force: true}); !errors.Is(err, store.ErrPooler) {
		t.Errorf("re-anchored through a pooler: %v", err)
	}
	w.dsn = harness.PgBouncer(t, db.DSN, "session", 20)
	w.publishAll()
	w.dsn = db.DSN
	w.check(nil, nil)
}
