package crash

import (
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// Promise 1: nothing invented, nothing lost - over kill -9 of PostgreSQL and of Kafka. Relay and sinks live through it: they are ready
// again without a restart.
func TestServersKilledUnderEverybodyNothingIsLost(t *testing.T) {
	t.Parallel()
	kafka := harness.KafkaServer(t, harness.KafkaOptions{HeapMB: 384})
	postgres := harness.PostgresServer(t, harness.PostgresOptions{})
	w := newWorld(t, servers{
		postgres: postgres.Database(t).DSN, kafka: &kafka.KafkaBroker, registry: harness.Registry(t), redis: harness.Redis(t).URL,
	})
	relay, sinks := w.role("relay", "relay"), w.role("sinks", "sink", w.sink("warehouse"), w.sink("search"), w.sink("cache"))
	w.shop.open()
	relay.start()
	sinks.start()
	type server struct {
		name        string
		kill, start func(testing.TB)
	}
	for _, server := range []server{{"PostgreSQL", postgres.Kill, postgres.Start}, {"Kafka", kafka.Kill, kafka.Start}} {
		w.waitForWork(relay, sinks)
		t.Logf("%d events committed: kill -9 %s", w.shop.mustTrade().Events, server.name)
		server.kill(t)
		time.Sleep(time.Duration(w.rng.Int64N(int64(3 * time.Second)))) // the length is to be random
		server.start(t)
		began := time.Now()
		w.waitForWork(relay, sinks)
		t.Logf("everybody works again %v after its start", time.Since(began).Round(10*time.Millisecond))
	}
	w.finish()
	if w.shop.mustTrade().Retried == 0 {
		t.Error("no transaction was lost with its server: the kill did not fall into work")
	}
	w.stop()
}

// waitForWork waits until each role has done something from now on.
func (w *world) waitForWork(roles ...*role) {
	w.t.Helper()
	for _, r := range roles {
		r.first = nil
	}
	for _, r := range roles {
		eventually(w.t, "for "+r.name+" to work", roundPatience, func() (bool, string) {
			w.shop.mustTrade()
			r.mustRun()
			return r.worked(), "its log: " + r.lastLines()
		})
	}
}
