package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/test/harness"
)

// threeOutboxes is a site with the outboxes first and second, two schemas of one database, and third, in a database of its own.
type threeOutboxes struct {
	*site
	broker *harness.KafkaBroker
	here   *pgx.Conn // the database of first and second
	there  *pgx.Conn // that of third, not through the proxy
	link   *proxy    // the relay's way to third
}

func newThreeOutboxes(t *testing.T) *threeOutboxes {
	t.Helper()
	o := &threeOutboxes{broker: harness.Kafka(t)}
	registry, one, two := harness.Registry(t), harness.Postgres(t), harness.Postgres(t)
	through, err := url.Parse(two.DSN)
	if err != nil {
		t.Fatal(err)
	}
	o.link = newProxy(t, through.Host)
	o.link.back()
	through.Host = o.link.addr
	o.site = newSite(t, map[string]string{
		"KAFKA": o.broker.Brokers[0], "REGISTRY": registry, "HERE": one.DSN, "THERE": through.String(), "REDIS": "", "DATABASE_URL": "",
	})
	o.here, o.there = one.Conn(t), two.Conn(t)
	o.write("schemas/RouteOpened.avsc", fmt.Sprintf(`{"type": "record", "name": "RouteOpened", "namespace": "post",
		"millrace.topic": %q, "millrace.key": "route_id", "fields": [{"name": "route_id", "type": "string"}]}`, o.topic("routes")))
	o.write("millrace.yaml", fmt.Sprintf(`
kafka: {brokers: ["${KAFKA}"]}
registry: {url: "${REGISTRY}"}
schemas: [schemas]
outboxes:
  %[1]s-first:
    postgres: ${HERE}
    topics: {%[1]s.parcels: {partitions: 2}}
  %[1]s-second:
    postgres: ${HERE}
    schema: second
    page_size: 7
    topics: {%[1]s.depots: {partitions: 1}}
  %[1]s-third:
    postgres: ${THERE}
    retry_max: 200ms
    topics: {%[1]s.routes: {partitions: 1}}
http: {listen: "${LISTEN}"}
`, o.name))
	for _, name := range []string{"first", "second", "third"} {
		o.broker.DeleteAtEnd(t, "__millrace."+o.outbox(name)+".cursor", "__millrace."+o.outbox(name)+".parked")
	}
	o.broker.DeleteAtEnd(t, o.topic("parcels"), o.topic("depots"), o.topic("routes"))
	o.ok("migrate", "up")
	for _, name := range []string{"first", "second", "third"} {
		o.ok("schema", "push", "--outbox", o.outbox(name))
	}
	return o
}

func (o *threeOutboxes) outbox(name string) string { return o.name + "-" + name }

// emitAll writes one event into each outbox; n makes its key.
func (o *threeOutboxes) emitAll(n int) {
	o.t.Helper()
	emit(o.t, o.here, "post.ParcelAccepted", accepted(fmt.Sprint("p", n), "Bremen"))
	if _, err := o.here.Exec(context.Background(), "select second.emit('post.DepotOpened', null, $1)",
		fmt.Sprintf(`{"depot_id":"d%d","name":"North","city":"Kiel"}`, n)); err != nil {
		o.t.Fatal(err)
	}
	emit(o.t, o.there, "post.RouteOpened", fmt.Sprintf(`{"route_id":"r%d"}`, n))
}

// published waits until an outbox has published so many events, by its own cursor.
func (o *threeOutboxes) published(name string, want int64) {
	o.t.Helper()
	o.waitStatus(fmt.Sprintf("%s has published %d", name, want), func(v statusView) bool {
		for _, b := range v.Outboxes {
			if b.Name == o.outbox(name) {
				return b.Seq == want && b.Behind == 0 && b.Error == ""
			}
		}
		return false
	})
}

// leads waits until a process says in its metrics that it leads an outbox, or does not.
func (o *threeOutboxes) leads(name string, want int) {
	o.t.Helper()
	line := fmt.Sprintf("millrace_relay_leader{outbox=%q} %d\n", o.outbox(name), want)
	eventually(o.t, strings.TrimSpace(line), func() bool { return strings.Contains(o.get("/metrics"), line) })
}

// Several outboxes in one process, two in one database: each has its own cursor, its own leader and its own limits, and one that is
// down, for now or for good, disturbs no other; the process says which one it is.
func TestSeveralOutboxesInOneProcess(t *testing.T) {
	t.Parallel()
	o := newThreeOutboxes(t)

	// Each its own leader: another process has the first.
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	alone := o.start("relay", "--outbox", o.outbox("first"), "--listen", fmt.Sprintf("127.0.0.1:%d", port))
	alone.WaitLine(t, "relay publishes", patience)
	all := o.start("relay")
	o.leads("second", 1)
	o.leads("third", 1)
	o.leads("first", 0)
	o.emitAll(1)
	for _, name := range []string{"first", "second", "third"} {
		o.published(name, 1)
	}
	if code := alone.Stop(t, patience); code != 0 {
		t.Errorf("the first relay ended with %d", code)
	}
	o.leads("first", 1)
	if code := all.Stop(t, patience); code != 0 {
		t.Errorf("the second relay ended with %d", code)
	}

	// One is stopped for good: its cursor is gone.
	adm := kadm.NewClient(o.broker.Client(t))
	if _, err := adm.DeleteTopic(t.Context(), "__millrace."+o.outbox("second")+".cursor"); err != nil {
		t.Fatal(err)
	}
	all = o.start("relay")
	line := all.WaitLine(t, "role stopped", patience)
	if !strings.Contains(line, "relay "+o.outbox("second")) || !strings.Contains(line, "cursor is missing") || !strings.Contains(line, "left=2") {
		t.Errorf("the log says: %s", line)
	}
	o.emitAll(2)
	o.published("first", 2)
	o.published("third", 2)
	o.waitReady("relay "+o.outbox("first"), true)
	o.waitReady("relay "+o.outbox("third"), true)
	if ready := o.get("/readyz"); !strings.Contains(ready, "relay "+o.outbox("second")+": ") || !strings.Contains(ready, "cursor is missing") {
		t.Errorf("/readyz says: %s", ready)
	}
	o.leads("second", 0)

	// Another is cut off from its database.
	o.link.away()
	o.waitReady("relay "+o.outbox("third"), false)
	o.emitAll(3)
	o.published("first", 3)
	o.waitReady("relay "+o.outbox("first"), true)
	o.link.back()
	o.published("third", 3)
	o.waitReady("relay "+o.outbox("third"), true)
	if o.ready() != 503 {
		t.Error("the process is ready although an outbox of it has stopped")
	}

	// At its end the process says which outbox had failed.
	if code := all.Stop(t, patience); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	last := all.Output()[strings.LastIndex(strings.TrimSpace(all.Output()), "\n"):]
	if !strings.Contains(last, "relay "+o.outbox("second")) || !strings.Contains(last, "cursor is missing") {
		t.Errorf("its last words: %s", last)
	}
	t.Logf("its log:\n%s", all.Output())
}
