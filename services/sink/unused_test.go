package sink

import (
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/test/harness"
)

// A store that was made and to which nothing was applied yet, for its sink was stopped in its first second, takes the declarations of the next start: there is nothing to rebuild, and nobody who
// could.
func TestAStoreThatNothingWasAppliedToTakesOtherDeclarations(t *testing.T) {
	t.Parallel()
	for kind, where := range map[string]func(t *testing.T) Config{
		"duckdb":   func(t *testing.T) Config { return Config{Path: t.TempDir() + "/warehouse.duckdb"} },
		"bleve":    func(t *testing.T) Config { return Config{Path: t.TempDir() + "/search"} },
		"postgres": func(t *testing.T) Config { return Config{URL: harness.Postgres(t).DSN} },
		"redis":    func(t *testing.T) Config { return Config{URL: harness.Redis(t).URL, Prefix: harness.Unique("unused")} },
		"opensearch": func(t *testing.T) Config {
			return Config{URL: harness.OpenSearch(t), IndexPrefix: harness.Unique("unused")}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if missing := kinds[kind].missing; missing != nil {
				t.Skip("this program was built without the backend: ", missing)
			}
			cfg := where(t)
			v := newVault(t)
			v.bank.t = t
			cfg.Kind, cfg.Name = kind, v.name
			first, err := New(cfg, Parts{Kafka: v.kafka, Registry: oneSchema{}, Catalogue: v.catalogue(), Projections: v.declare(", total: event.amount"), Logger: discard()})
			if err != nil {
				t.Fatal(err)
			}
			st, err := first.make(1, false, first.declared)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.sink.Claim(t.Context(), consumers.TopicPartition{Topic: v.topic}); err != nil {
				t.Error(err)
			}
			if err := st.backend.Close(); err != nil {
				t.Fatal(err)
			}
			v.open(100)
			s := v.run(cfg, v.declare(", total: event.amount * 2"))
			if out := s.verified(100); out.Differences != 0 {
				t.Errorf("%s", keysOf(out))
			}
			if note := s.Note(); note != "" {
				t.Error(note)
			}
		})
	}
}
