package relay_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
)

// row inserts a row as a writer that goes around the library might.
func (r *rig) row(topic, key string, fp schemas.Fingerprint, payload []byte, body, headers any) {
	r.t.Helper()
	r.exec(`insert into outbox.event (topic, key, type, schema_fp, payload, body, headers) values ($1, $2, 'test.Counted', $3, $4, $5, $6)`,
		topic, key, fp[:], payload, body, headers)
}

func (r *rig) fingerprint() schemas.Fingerprint {
	r.t.Helper()
	s, err := schemas.Parse(countedSchema(r.topic))
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Fingerprint
}

func (r *rig) parked() []*relay.Parked {
	r.t.Helper()
	r.stableEnds(r.t.Context(), relay.ParkedTopic(r.name)) // a commit is known before its markers are written
	all, err := relay.ListParked(r.t.Context(), []kgo.Opt{kgo.SeedBrokers(r.brokers...)}, r.name)
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// badRows inserts one row of each kind that cannot be published and returns why, by key.
func (r *rig) badRows() map[string]relay.Reason {
	fp := r.fingerprint()
	r.row(r.topic, "bad-body", fp, nil, `{"key": "bad-body", "n": "many"}`, nil)
	r.row(r.topic, "missing-field", fp, nil, `{"key": "missing-field"}`, nil)
	r.row(r.topic, "unknown-field", fp, nil, `{"key": "unknown-field", "n": 1, "colour": "red"}`, nil)
	r.row(r.topic, "unknown-schema", schemas.Fingerprint{1}, []byte{2}, nil, nil)
	r.row("__consumer_offsets", "internal-topic", fp, nil, `{"key": "internal-topic", "n": 1}`, nil)
	r.row("no such topic!", "bad-topic", fp, nil, `{"key": "bad-topic", "n": 1}`, nil)
	r.row(r.topic, "", fp, nil, `{"key": "", "n": 1}`, nil)
	r.row(r.topic, "bad-headers", fp, nil, `{"key": "bad-headers", "n": 1}`, `["x"]`)
	r.row(r.topic, "reserved-header", fp, nil, `{"key": "reserved-header", "n": 1}`, `{"millrace-seq": "99"}`)
	r.row(r.topic, "too-large", fp, nil, fmt.Sprintf(`{"key": "too-large", "n": 1, "pad": %q}`, strings.Repeat("x", 20_000)), nil)
	return map[string]relay.Reason{
		"bad-body": relay.ReasonBody, "missing-field": relay.ReasonBody, "unknown-field": relay.ReasonBody,
		"unknown-schema": relay.ReasonSchema, "internal-topic": relay.ReasonTopic, "bad-topic": relay.ReasonTopic,
		"": relay.ReasonKey, "bad-headers": relay.ReasonHeaders, "reserved-header": relay.ReasonHeaders, "too-large": relay.ReasonSize,
	}
}

// Promise 7: A bad event never stops the stream. It is parked, each for its reason, and others are published.
func TestPromise7ABadEventNeverStopsTheStream(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(func(c *relay.Config) { c.MaxRecordBytes = 10_000 })
		want := r.badRows()
		r.emit("good", 1)
		run.untilSeq(1)
		if got := r.committed(r.topic); len(got) != 1 || string(got[0].Key) != "good" {
			t.Errorf("%d records in the topic", len(got))
		}
		parked := r.parked()
		if len(parked) != len(want) {
			t.Errorf("%d events parked, want %d", len(parked), len(want))
		}
		for _, p := range parked {
			if p.Reason != want[p.Key] || p.Position != 1 || p.EventID == uuid.Nil || p.Row == 0 || p.Detail == "" || p.ParkedAt.IsZero() {
				t.Errorf("%+v", p)
			}
			t.Logf("%s: %s %s: %s", p.Key, p.Reason, p.Field, p.Detail)
			if p.Key == "bad-body" && (p.Field != "n" || !strings.Contains(p.Body, "many")) {
				t.Errorf("%+v", p)
			}
		}
		if s := run.Status(); s.Parked != int64(len(want)) || s.State != relay.StateLeading {
			t.Errorf("%+v", s)
		}
	})
}

// A topic of somebody else may take less than the relay would send, and may be told so while it is published to.
func TestPromise7AnEventThatItsTopicDoesNotTakeIsParked(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		limit := func(n string) map[string]*string { return map[string]*string{"max.message.bytes": &n} }
		if _, err := r.admin().CreateTopic(t.Context(), 3, 1, limit("20000"), r.topic); err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(7, 7))
		write := func(key string, size int) {
			pad := make([]byte, size) // that does not compress
			for i := range pad {
				pad[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[rnd.IntN(64)]
			}
			r.row(r.topic, key, r.fingerprint(), nil, fmt.Sprintf(`{"key": %q, "n": 1, "pad": %q}`, key, pad), nil)
		}
		write("large", 30_000)
		for range 10 {
			write("fits", 9_000) // two to a batch
		}
		run := r.run(nil)
		run.untilSeq(10)
		if s := run.Status(); s.Restarts > 0 || s.Parked != 1 {
			t.Errorf("%+v", s)
		}
		value := "10000"
		alter := []kadm.AlterConfig{{Name: "max.message.bytes", Value: &value}}
		if _, err := r.admin().AlterTopicConfigs(t.Context(), alter, r.topic); err != nil {
			t.Fatal(err)
		}
		write("too large now", 15_000)
		write("fits", 8_000)
		run.untilSeq(11)
		r.committed(relay.ParkedTopic(r.name)) // waits until the markers are written
		var got []string
		for _, p := range r.parked() {
			got = append(got, fmt.Sprintf("%s %s", p.Key, p.Reason))
		}
		if want := "[large size too large now size]"; fmt.Sprint(got) != want {
			t.Errorf("parked %v, want %s", got, want)
		}
	})
}

// The key's later events are parked behind the bad one, in order, also after a restart; other keys go on.
func TestPromise7LaterEventsOfTheKeyWaitInOrder(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.emit("k", 1)
		r.row(r.topic, "k", r.fingerprint(), nil, `{"key": "k"}`, nil)
		r.emit("k", 3)
		r.emit("other", 1)
		run.untilSeq(2)
		if err := run.stop(); err != nil {
			t.Fatal(err)
		}
		r.emit("k", 4)
		r.emit("other", 2)
		run = r.run(nil)
		run.untilSeq(3)
		run.until("three parked events", func(s relay.Status) bool { return s.Parked == 3 })
		var got []string
		for _, p := range r.parked() {
			got = append(got, fmt.Sprintf("%d %s %s", p.Position, p.Key, p.Reason))
		}
		if want := "[1 k body 2 k behind 3 k behind]"; fmt.Sprint(got) != want {
			t.Errorf("parked %v, want %s", got, want)
		}
		got = nil
		for _, rec := range r.committed(r.topic) {
			got = append(got, headers(rec)["millrace-seq"]+" "+string(rec.Key))
		}
		if len(got) != 3 {
			t.Errorf("published %v", got)
		}
	})
}

// A schema that the registry refuses parks its events; others go on.
func TestPromise7ARefusedSchemaParksItsEvents(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	r := newRig(t, fakeBroker(t), reg)
	reg.set(func(subject, _ string) error {
		if subject == r.topic+"-test.Counted" {
			return fmt.Errorf("registry: %w", &registry.ErrIncompatible{Subject: subject, Reasons: []string{"n was added without a default"}})
		}
		return nil
	})
	run := r.run(nil)
	r.emit("k", 1)
	run.until("a parked event", func(s relay.Status) bool { return s.Parked == 1 })
	p := r.parked()[0]
	if p.Reason != relay.ReasonRefused || !strings.Contains(p.Detail, "without a default") {
		t.Errorf("%+v", p)
	}
}

// While the registry is away an unknown schema waits; nothing is lost and nobody has to restart anything.
func TestARegistryThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	reg.set(func(string, string) error { return registry.ErrUnavailable })
	r := newRig(t, fakeBroker(t), reg)
	run := r.run(nil)
	r.emit("k", 1)
	eventually(t, "the trouble to show", func() error {
		if err := run.Ready(); err == nil || !errors.Is(err, registry.ErrUnavailable) {
			return fmt.Errorf("ready: %v", err)
		}
		return nil
	})
	if s := run.Status(); s.State != relay.StateLeading || !strings.Contains(s.Reason, "registry") {
		t.Errorf("%+v", s)
	}
	reg.set(nil)
	run.untilSeq(1)
	eventually(t, "the trouble to pass", run.Ready)
}

// Ids that were used before are known through a restart while the registry is away.
func TestKnownIdsSurviveARestartWithoutRegistry(t *testing.T) {
	t.Parallel()
	reg := &memoryRegistry{}
	r := newRig(t, fakeBroker(t), reg)
	r.publishOne("k", 1, 1)
	reg.set(func(string, string) error { return registry.ErrUnavailable })
	r.publishOne("k", 2, 2)
	got := r.committed(r.topic)
	if len(got) != 2 || string(got[0].Value[:5]) != string(got[1].Value[:5]) {
		t.Errorf("%d records, frames %x and %x", len(got), got[0].Value[:5], got[1].Value[:5])
	}
	r.checkPublished()
}

// A registry that was emptied gives out other ids: what the cursor topic remembers must not win over it.
func TestAnEmptiedRegistryIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.publishOne("k", 1, 1)
	r.registry = &memoryRegistry{ids: map[[2]string]int{{"a", "b"}: 7, {"c", "d"}: 8}}
	r.publishOne("k", 2, 2)
	got := r.committed(r.topic)
	if got[0].Value[4] != 100 || got[1].Value[4] != 102 {
		t.Errorf("frames %x and %x", got[0].Value[:5], got[1].Value[:5])
	}
}
