package e2e

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// A port that takes connections and says nothing: whoever asks how things stand hears meanwhile what is waited for, and then where to
// look.
func TestStatusOfServersThatSayNothing(t *testing.T) {
	t.Parallel()
	silent := harness.SilentPort(t)
	for _, c := range []struct{ name, kafka, postgres, awaited, key string }{
		{"kafka", silent, "postgres://nobody@127.0.0.1:1/none", "waiting for Kafka", "kafka.brokers"},
		{"postgres", harness.Kafka(t).Brokers[0], "postgres://nobody@" + silent + "/none", "waiting for outbox ", ".postgres"},
	} {
		for _, command := range []string{"relay status", "status"} {
			t.Run(c.name+" "+command, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, map[string]string{"KAFKA": c.kafka, "DATABASE_URL": c.postgres, "REGISTRY": "http://" + silent, "REDIS": "redis://" + silent})
				r := s.run(strings.Fields(command)...)
				if r.code != 1 || !strings.Contains(r.stdout, c.key) || !strings.Contains(r.stderr, c.awaited) {
					t.Errorf("status %d\n%s%s", r.code, r.stdout, r.stderr)
				}
			})
		}
	}
}

// A stranger's lock on the outbox does not keep whoever asks waiting for as long as it lasts.
func TestStatusBehindALock(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.setUp()
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table outbox.event in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"relay status", "status"} {
		r := s.run(strings.Fields(command)...)
		if r.code != 1 || !strings.Contains(r.stdout, "a session holds a lock on its tables") || !strings.Contains(r.stderr, "waiting for outbox "+s.name) {
			t.Errorf("%s: status %d\n%s%s", command, r.code, r.stdout, r.stderr)
		}
	}
}
