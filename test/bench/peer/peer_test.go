package peer

import (
	"testing"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The measuring itself is put to the test with few events: what comes out is plausible, and everything made is taken away.
func TestDrainAndKill(t *testing.T) {
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"wal_level": "logical"}})
	broker := harness.Kafka(t)
	o := Options{Kafka: broker.Brokers[0], Postgres: server.DSN, Dir: t.TempDir(), N: 20000, Tuned: true}
	r, err := Drain(t.Context(), o, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
}
