package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/relay"
)

// A relay that waits behind a stranger's lock, at its start or later, says so in its status, readiness and log, and names the session.
func TestALockThatTheRelayWaitsForIsNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	log := &syncBuffer{}
	var run *running
	for n, begin := range []func(){
		func() { run = r.run(func(c *relay.Config) { c.Logger = log.logger() }) },
		func() {},
	} {
		cfg, err := pgx.ParseConfig(r.dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.RuntimeParams["application_name"] = "a stranger"
		stranger, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close(t.Context())
		if _, err := stranger.Exec(t.Context(), `begin; lock table outbox.event in access exclusive mode`); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("session %d (", stranger.PgConn().PID())
		begin()
		run.until("the session to be named", func(s relay.Status) bool {
			return strings.Contains(s.Reason, want) && strings.Contains(s.Reason, "outbox.event") && strings.Contains(s.Reason, `"a stranger"`)
		})
		if err := run.Ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("readiness: %v", err)
		}
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name it:\n%s", log)
		}
		if _, err := stranger.Exec(t.Context(), `rollback`); err != nil {
			t.Fatal(err)
		}
		r.emit("k", int64(n+1))
		run.untilSeq(int64(n + 1))
		run.until("all to be well", func(s relay.Status) bool { return s.Reason == "" })
	}
	if !strings.Contains(log.String(), "part=lock") || !strings.Contains(log.String(), "works again") {
		t.Errorf("the log:\n%s", log)
	}
}
