package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// finding returns the worst finding of a check, of which the text is part of what was found; the test fails if there is none.
func (r Report) finding(t *testing.T, name, text string) Finding {
	t.Helper()
	var worst Finding
	for _, f := range r.Findings {
		if f.Check == name && strings.Contains(f.What, text) && (worst.Check == "" || rank(f.Severity) > rank(worst.Severity)) {
			worst = f
		}
	}
	if worst.Check == "" {
		t.Fatalf("no finding of check %q with %q in:\n%+v", name, text, r.Findings)
	}
	return worst
}

func rank(s Severity) int {
	for i, one := range Severities {
		if one == s {
			return i
		}
	}
	return -1
}

// wants fails unless the worst finding of a check is as said and, if it is worse than a note, says why it matters and what mends it.
func (r Report) wants(t *testing.T, name string, severity Severity, what, mend string) {
	t.Helper()
	f := r.finding(t, name, what)
	if f.Severity != severity || !strings.Contains(f.Mend, mend) {
		t.Errorf("%s is %s (%s), mend %q; want %s, mend with %q", name, f.Severity, f.What, f.Mend, severity, mend)
	}
	if rank(f.Severity) > rank(Note) && (f.Why == "" || f.Mend == "") {
		t.Errorf("%s does not say why it matters, or what to do: %+v", name, f)
	}
	if f.System == "" || f.What == "" {
		t.Errorf("half a finding: %+v", f)
	}
}

// nothing fails if there is a finding worse than a note.
func (r Report) nothing(t *testing.T) {
	t.Helper()
	for _, f := range r.Findings {
		if rank(f.Severity) > rank(Note) {
			t.Errorf("%+v", f)
		}
	}
}

func client(t *testing.T, url string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Where nothing is wrong nothing is found: before the first start, and of a relay that runs no more than a note.
func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	broker, db := harness.Kafka(t), harness.Postgres(t)
	if _, err := migrate.Up(t.Context(), db.Conn(t)); err != nil {
		t.Fatal(err)
	}
	name := harness.Unique("well")
	events := broker.NewTopic(t, 3, "retention.ms", "-1")
	site := Site{
		Outboxes: []relay.Config{{Outbox: name, Postgres: db.DSN, Topics: map[string]relay.Topic{events: {Partitions: 3}, harness.Unique("later"): {}}}},
		Kafka:    []kgo.Opt{kgo.SeedBrokers(broker.Brokers...)}, Registry: client(t, harness.Registry(t)),
	}
	r := Run(t.Context(), site)
	r.nothing(t)
	r.wants(t, "leader", Note, "no relay", "millrace relay --outbox "+name)
	r.wants(t, "topic", Note, relay.CursorTopic(name)+": does not exist yet", "cleanup.policy=compact")
	r.wants(t, "topic", OK, events, "")
	r.wants(t, "outbox", OK, "schema outbox", "")
	if n := r.Count(OK); n < 25 {
		t.Errorf("%d checks say that all is well: some did not look", n)
	}
	for _, f := range r.Findings {
		t.Logf("%s %s: %s: %s (%s; %s)", f.System, f.Check, f.Severity, f.What, f.Why, f.Mend)
	}
}

// Each system that is away is a finding, and the others are looked at.
func TestASystemThatIsAwayKeepsNobodyFromTheRest(t *testing.T) {
	t.Parallel()
	db := harness.Postgres(t)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := fmt.Sprintf("127.0.0.1:%d", port)
	r := Run(t.Context(), Site{
		Outboxes: []relay.Config{{Outbox: "here", Postgres: db.DSN}, {Outbox: "gone", Postgres: "postgres://me:s3cret@" + nowhere + "/x?sslmode=disable"}},
		Kafka:    []kgo.Opt{kgo.SeedBrokers(nowhere)}, Registry: client(t, "http://me:s3cret@"+nowhere),
	})
	for _, system := range []string{"postgres", "kafka", "registry"} {
		away := 0
		for _, f := range r.Findings {
			if f.System == system && f.Check == "reachable" && f.Severity == Error && f.Outbox != "here" {
				away++
			}
			if strings.Contains(f.What+f.Why+f.Mend, "s3cret") {
				t.Errorf("a secret is shown: %+v", f)
			}
		}
		if away != 1 {
			t.Errorf("%s is away, and %d findings say so", system, away)
		}
	}
	r.wants(t, "version", OK, "PostgreSQL", "")
	r.wants(t, "outbox", Error, "the outbox is not there", "millrace migrate up --outbox here")
}
