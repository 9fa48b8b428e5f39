package harness_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestPostgresGivesEachTestItsOwnDatabase(t *testing.T) {
	t.Parallel()
	a, b := harness.Postgres(t), harness.Postgres(t)
	if a.DSN == b.DSN {
		t.Fatalf("two databases with one DSN %s", a.DSN)
	}
	conn := a.Conn(t)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE mine (n int)"); err != nil {
		t.Fatal(err)
	}
	var found bool
	err := b.Pool(t).QueryRow(t.Context(), "SELECT to_regclass('mine') IS NOT NULL").Scan(&found)
	if err != nil || found {
		t.Fatalf("table of one test seen in another's database: %v, %v", found, err)
	}
	var fsync string
	if err := conn.QueryRow(t.Context(), "SHOW fsync").Scan(&fsync); err != nil || fsync != "on" {
		t.Fatalf("fsync is %q (%v), the relay wants on", fsync, err)
	}
}

func TestKafkaRunsTransactions(t *testing.T) {
	t.Parallel()
	broker := harness.Kafka(t)
	topic := broker.NewTopic(t, 1)
	producer := broker.Client(t, kgo.TransactionalID(harness.Unique("tx")), kgo.DefaultProduceTopic(topic))

	produce := func(value string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	produce("aborted", kgo.TryAbort)
	produce("committed", kgo.TryCommit)

	if got := consume(t, broker, topic, 1); got[0] != "committed" {
		t.Fatalf("a reader of committed records got %q", got)
	}
}

// consume reads n committed records from the start of a topic.
func consume(t *testing.T, broker *harness.KafkaBroker, topic string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reader := broker.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	var values []string
	for len(values) < n {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("consume %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestRegistryRefusesWhatIsNotBackwardCompatible(t *testing.T) {
	t.Parallel()
	url := harness.Registry(t)
	subject := url + "/subjects/" + harness.Unique("subject") + "/versions"
	post := func(fields string) int {
		t.Helper()
		body := `{"schema": "{\"type\":\"record\",\"name\":\"R\",\"fields\":[` + strings.ReplaceAll(fields, `"`, `\"`) + `]}"}`
		resp, err := http.Post(subject, "application/vnd.schemaregistry.v1+json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := post(`{"name":"a","type":"string"}`); got != http.StatusOK {
		t.Fatalf("register: HTTP %d", got)
	}
	if got := post(`{"name":"a","type":"int"}`); got != http.StatusConflict {
		t.Fatalf("register an incompatible version: HTTP %d, want 409", got)
	}
}

func TestRedisGivesEachTestItsOwnDatabase(t *testing.T) {
	t.Parallel()
	a, b := harness.Redis(t), harness.Redis(t)
	if err := a.Client(t).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Client(t).Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Fatalf("key of one test seen in another's database: %d, %v", n, err)
	}
}

func TestFreePortIsFree(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 1000 {
		port, err := harness.FreePort()
		if err != nil || port < 1024 || port >= 32768 || seen[port] {
			t.Fatalf("port %d, %v: want one below the ephemeral range, and another each time", port, err)
		}
		seen[port] = true
	}
}
