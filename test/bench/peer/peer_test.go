package peer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The whole way with few events: through a real worker, and nothing is left behind.
func TestDrainLeavesNothingBehind(t *testing.T) {
	broker := harness.Kafka(t)
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"wal_level": "logical"}})
	admin := kadm.NewClient(broker.Client(t))
	before := topics(t, admin) // the broker is everybody's
	r, err := Drain(t.Context(), Options{Kafka: broker.Brokers[0], Postgres: server.DSN, Dir: t.TempDir(), N: 3000, Tuned: true},
		func(line string) { t.Log(line) })
	if missing := (*harness.MissingError)(nil); errors.As(err, &missing) {
		harness.Missing(t, missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Setting != "tuned" || r.Events != 3000 || r.FirstEvent <= 0 || r.PeakMB < 100 {
		t.Errorf("implausible: %+v", r)
	}
	if names := left(t, server.DSN); len(names) > 0 {
		t.Errorf("left in Postgres: %v", names)
	}
	if now := topics(t, admin); !slices.Equal(now, before) {
		t.Errorf("left in Kafka: %v, and before %v", now, before)
	}
}

// topics lists the topics of runs.
func topics(t *testing.T, admin *kadm.Client) []string {
	all, err := admin.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all.Names(), func(name string) bool { return !strings.HasPrefix(name, "peer_") })
}

func TestServersWithoutLogicalDecodingAreRefused(t *testing.T) {
	dsn := harness.Postgres(t).DSN
	before := left(t, dsn) // the server is everybody's
	_, err := newOutbox(t.Context(), dsn)
	if err == nil || !strings.Contains(err.Error(), "wal_level=replica") {
		t.Errorf("got %v", err)
	}
	if now := left(t, dsn); !slices.Equal(now, before) {
		t.Errorf("left in Postgres: %v, and before %v", now, before)
	}
}

// left lists databases and slots that runs have not taken away.
func left(t *testing.T, dsn string) []string {
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT datname FROM pg_database WHERE datname LIKE 'peer\_%'
		UNION ALL SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'peer\_%' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPayloadsAreAvroOfAbout300Bytes(t *testing.T) {
	for _, n := range []int{0, 1, 999_999} {
		value := Payload(n)
		if len(value) < 290 || len(value) > 310 {
			t.Errorf("event %d: %d bytes", n, len(value))
		}
		id, payload, err := avro.SplitFrame(value)
		if err != nil || id != 1 {
			t.Fatalf("event %d: schema %d, %v", n, id, err)
		}
		order, err := orderCodec().Decode(payload)
		if err != nil || order["total"] != int64(n%100_000) {
			t.Errorf("event %d: %v, %v", n, order, err)
		}
	}
}

func TestTunedAndExtraSettingsReplaceOthers(t *testing.T) {
	if s := (Options{}).Settings(); s["poll.interval.ms"] != "" || s["transforms.outbox.type"] == "" {
		t.Errorf("default: %v", s)
	}
	o := Options{Tuned: true, Extra: LowestLatency}
	if s := o.Settings(); s["poll.interval.ms"] != "1" || s["max.batch.size"] != "16384" {
		t.Errorf("tuned with extra: %v", s)
	}
	if s := (Options{Tuned: true}).Settings(); s["poll.interval.ms"] != "10" {
		t.Errorf("extra settings of one run are in the next: %v", s)
	}
}

func TestPropertiesKeepTheirLines(t *testing.T) {
	got := properties(map[string]string{"b": "x\ny", "a": `c:\d`})
	if want := "a=c:\\\\d\nb=x\\ny\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOptionsThatCannotBeRunAreNamed(t *testing.T) {
	good := Options{Kafka: "127.0.0.1:1", Postgres: "postgres://", Dir: "."}
	if err := good.withDefaults().validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Options){
		"Kafka": func(o *Options) { o.Kafka = "" }, "Postgres": func(o *Options) { o.Postgres = "" }, "Dir": func(o *Options) { o.Dir = "" },
		"N": func(o *Options) { o.N = 1 }, "Transaction": func(o *Options) { o.Transaction = -1 },
		"Partitions": func(o *Options) { o.Partitions = -1 }, "Rate": func(o *Options) { o.Rate = -1 },
		"Duration": func(o *Options) { o.Duration = time.Millisecond }, "WarmUp": func(o *Options) { o.WarmUp = -1 },
	} {
		o := good
		spoil(&o)
		if err := o.withDefaults().validate(); err == nil || !strings.Contains(err.Error(), "Options."+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestNumbersAreReadFromIds(t *testing.T) {
	for id, want := range map[string]int{
		"6d696c6c-7261-6365-0000-0000000f4240": 1_000_000,
		"6d696c6c-7261-6365-0000-000000000000": 0,
		"6d696c6c-7261-6365-ffff-ffffffffffff": -1, // more than any run has
		"6d696c6c-7261-6365-0000":              -1,
		"":                                     -1,
	} {
		n, err := number(&kgo.Record{Headers: []kgo.RecordHeader{{Key: "other"}, {Key: "id", Value: []byte(id)}}})
		if want >= 0 && (err != nil || n != want) || want < 0 && err == nil {
			t.Errorf("%q: %d, %v", id, n, err)
		}
	}
	if _, err := number(&kgo.Record{}); err == nil {
		t.Error("a record without an id is an event")
	}
}

func TestACensusTellsRepeatedFromMissing(t *testing.T) {
	now := time.Now().Add(-time.Hour)
	c := &census{sent: 2, seen: make([]bool, 4), last: now}
	for i, n := range []int{0, 1, 0, 1, 2} {
		c.add(n, now.Add(time.Duration(i)))
	}
	if c.records-c.events != 2 || len(c.seen)-c.events != 1 || !c.restarted.Equal(now.Add(2)) {
		t.Errorf("%+v", c)
	}
	if c.last = time.Now().Add(-2 * quiet); c.complete() {
		t.Error("complete without event 3")
	}
	c.add(3, time.Now())
	if c.complete() {
		t.Error("complete at once: more may come")
	}
	if c.last = time.Now().Add(-2 * quiet); !c.complete() {
		t.Error("not complete with all events")
	}
}

func TestRatesAndShares(t *testing.T) {
	begin := time.Now()
	from := moment{at: begin, records: 100, worker: 1}
	to := moment{at: begin.Add(2 * time.Second), records: 1100, worker: 3}
	if got := rate(from, to); got != 500 {
		t.Errorf("rate %v", got)
	}
	if got := rate(from, from); got != 0 {
		t.Errorf("rate of nothing %v", got)
	}
	if got := cpuOf(from, to); got != 2000 {
		t.Errorf("CPU %v", got)
	}
}
