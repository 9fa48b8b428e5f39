package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/sink"
	"github.com/millrace/millrace/test/harness"
)

const moved = `{"type": "record", "name": "Moved", "namespace": "bank", "millrace.topic": "bank.accounts", "millrace.key": "account",
	"fields": [{"name": "account", "type": "string"}, {"name": "amount", "type": "long"}]}`

// A sink that serves what another declaration has made is found, and so is a rebuild that waits for somebody.
func TestASinkThatServesAnotherDeclaration(t *testing.T) {
	t.Parallel()
	broker, name := harness.Kafka(t), harness.Unique("served")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Moved.avsc"), []byte(moved), 0o644); err != nil {
		t.Fatal(err)
	}
	catalogue, err := schemas.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := projection.Parse("account.yaml", []byte("entity: account\ntopic: bank.accounts\non: {bank.Moved: {set: {amount: event.amount}}}\n"), catalogue)
	if err != nil {
		t.Fatal(err)
	}
	cfg := sink.Config{Name: name, Kind: "bleve", Path: "search", Entities: []string{"account"}}
	site := Site{Kafka: []kgo.Opt{kgo.SeedBrokers(broker.Brokers...)}, Projections: []*projection.Projection{p}}
	look := func() Report { return Report{site.generations(t.Context(), cfg)} }

	look().nothing(t) // it has not run yet
	broker.CreateTopic(t, rebuild.Topic(name), 1, "cleanup.policy", "compact")
	cl := broker.Client(t)
	put := func(rec rebuild.Record) {
		t.Helper()
		value, err := json.Marshal(rec)
		if err == nil {
			err = cl.ProduceSync(t.Context(), &kgo.Record{Topic: rebuild.Topic(name), Key: []byte("record"), Value: value}).FirstErr()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rec := rebuild.Record{Sink: name, Serving: 1, Newest: 1, Generations: map[int]*rebuild.Generation{1: {Digests: map[string]string{"account": p.Digest()}}}}
	put(rec)
	r := look()
	r.nothing(t)
	r.wants(t, "declarations", OK, "generation 1 serves", "")

	rec.Generations[1].Digests["account"] = "of another one"
	put(rec)
	look().wants(t, "declarations", Warning, "other declarations than are configured: account", "millrace rebuild --plan "+name)

	rec.Newest, rec.Generations[2] = 2, &rebuild.Generation{}
	rec.Rebuild = &rebuild.Rebuild{ID: "r", Old: 1, New: 2, State: rebuild.Refused, Reason: "3 keys differ"}
	put(rec)
	look().wants(t, "rebuild", Warning, "refused: 3 keys differ", "millrace rebuild status "+name)
	rec.Rebuild.State, rec.Rebuild.Paused = rebuild.Building, true
	put(rec)
	look().wants(t, "rebuild", Note, "paused", "millrace rebuild resume "+name)
}

// A webhook has no generations.
func TestAWebhookIsNotRebuilt(t *testing.T) {
	if all := (Site{}).generations(t.Context(), sink.Config{Name: "w", Kind: "webhook"}); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
