package matrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

// evolved is a field that is added to the schema of events, while they go on: first its writer has it and the sink does not know of it, then the projection has a column of it. PostgreSQL
// adds that in place, other stores by a rebuild. What was there before is as it was.
func evolved(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(200)
	r.produce(r.event("of old", "never seen again"))
	r.start()
	r.caughtUp()
	text := r.evolve()
	r.fill(100) // of a writer that the sink does not know yet
	r.caughtUp()
	r.recorded()
	r.stop()
	r.compare()

	r.write("schemas/Moved.avsc", text)
	r.write("projections/account.yaml", fmt.Sprintf(declaration, r.topic, ", branch: event.branch"))
	r.fill(100)
	r.start()
	r.fill(100)
	if kind != "postgres" && kind != "webhook" {
		r.rebuild()
	}
	r.fill(100)
	r.verify()
	if kind == "webhook" {
		return
	}
	for key, branch := range r.branches() {
		want := "north"
		switch {
		case key == "of old" && kind == "postgres":
			want = "<nil>" // a column that is added in place is empty until the next event
		case key == "of old":
			want = "main" // the default of the field, by which an event of old is read
		}
		if branch != want {
			t.Errorf("%s has branch %s, want %s", key, branch, want)
		}
	}
}

// recorded waits until the sink has written down by which declarations its store was built: later it goes on by them when others are configured.
func (r *rig) recorded() {
	r.t.Helper()
	if r.kind == "webhook" {
		return
	}
	client := rebuild.Open(r.name, kgo.SeedBrokers(r.broker.Brokers...))
	r.eventually("the record of generations", func() error {
		rec, err := client.Read(r.t.Context())
		if err == nil && rec.Generations[1] == nil {
			err = errors.New("it has no generation 1 yet")
		}
		return err
	})
}

// evolve registers the schema with another field, by which events are written from now on, and returns it.
func (r *rig) evolve() string {
	r.t.Helper()
	text := strings.Replace(fmt.Sprintf(schema, r.topic), `{"name": "memo",`, `{"name": "branch", "type": "string", "default": "main"}, {"name": "memo",`, 1)
	reg, err := registry.New(registry.Config{URL: r.registry})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.id, err = reg.Register(r.t.Context(), r.topic+"-bank.Moved", text); err != nil {
		r.t.Fatal(err)
	}
	if r.codec, err = avro.New(text); err != nil {
		r.t.Fatal(err)
	}
	r.branch = "north"
	return text
}

// branches is the column that was added, by key.
func (r *rig) branches() map[string]string {
	r.t.Helper()
	s := r.open()
	defer func() {
		if err := s.Close(); err != nil {
			r.t.Errorf("close the store: %v", err)
		}
	}()
	var keys []string
	for key := range r.truth {
		keys = append(keys, key)
	}
	states, err := s.Load(context.Background(), "account", keys)
	if err != nil || len(states) != len(keys) {
		r.t.Fatalf("%d of %d states, %v", len(states), len(keys), err)
	}
	out := map[string]string{}
	for i, c := range r.projections()[0].Columns() {
		for key, st := range states {
			if c.Name == "branch" {
				out[key] = fmt.Sprint(st.Values[i])
			}
		}
	}
	if len(out) != len(keys) {
		r.t.Fatalf("%d of %d states have the column", len(out), len(keys))
	}
	return out
}
