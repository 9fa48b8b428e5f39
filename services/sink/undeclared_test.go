package sink

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// A generation whose declarations cannot be compiled any more, for a schema that they need is gone, is removed all the same, and no other one.
func TestAGenerationWithoutItsSchemasIsRemoved(t *testing.T) {
	t.Parallel()
	for kind, where := range map[string]func(t *testing.T) Config{
		"duckdb":   func(t *testing.T) Config { return Config{Path: t.TempDir() + "/warehouse.duckdb"} },
		"bleve":    func(t *testing.T) Config { return Config{Path: t.TempDir() + "/search"} },
		"postgres": func(t *testing.T) Config { return Config{URL: harness.Postgres(t).DSN} },
		"redis": func(t *testing.T) Config {
			return Config{URL: harness.Redis(t).URL, Prefix: harness.Unique("undeclared")}
		},
		"opensearch": func(t *testing.T) Config {
			return Config{URL: harness.OpenSearch(t), IndexPrefix: harness.Unique("undeclared")}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if missing := kinds[kind].missing; missing != nil {
				t.Skip("this program was built without the backend: ", missing)
			}
			cfg := where(t)
			b := &bank{t: t, topic: "accounts"}
			cfg.Kind, cfg.Name = kind, harness.Unique("undeclared")
			s, err := New(cfg, Parts{Registry: oneSchema{}, Catalogue: b.catalogue(), Projections: b.declare(""), Logger: discard()})
			if err != nil {
				t.Fatal(err)
			}
			tp := consumers.TopicPartition{Topic: b.topic}
			next := func(number int, write bool) int64 {
				t.Helper()
				st, err := s.make(number, number > 1, s.declared)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := st.backend.Close(); err != nil {
						t.Error(err)
					}
				}()
				c, err := st.sink.Claim(t.Context(), tp)
				if err == nil && write {
					err = st.sink.Commit(t.Context(), fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: 0, Next: 7})
				}
				if err != nil {
					t.Fatal(err)
				}
				return c.Next
			}
			next(1, true)
			next(2, true)
			gone := &rebuild.Generation{Projections: map[string]string{"a.yaml": "entity: account\ntopic: accounts\non:\n  bank.Gone: {set: {owner: event.owner}}\n"},
				Digests: map[string]string{"account": "another"}}
			h := host{&supervisor{s: s}}
			if _, err := h.Open(t.Context(), 2, gone, true); consumers.Classify(err) != consumers.Systemic {
				t.Errorf("a generation without its schemas is opened: %v", err)
			}
			for range 2 {
				if err := h.Remove(t.Context(), 2, gone); err != nil {
					t.Fatal(err)
				}
			}
			if at := next(2, false); at > 0 {
				t.Errorf("generation 2 is there, at %d", at)
			}
			if at := next(1, false); at != 7 {
				t.Errorf("generation 1 is at %d", at)
			}
		})
	}
}

// A rebuild whose declarations nobody can compile any more is aborted, and what it built is gone.
func TestARebuildWithoutItsSchemasIsAborted(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	cfg := Config{Kind: "bleve", Path: t.TempDir() + "/search"}
	v.open(300)
	s := v.run(cfg, v.declare(""))
	s.verified(300)
	v.recorded()
	s.end()
	s = v.run(cfg, v.declare(", total: event.amount"))
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Refused)
	s.end()
	rec, err := rebuild.Open(v.name, v.kafka...).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range rec.Generations[2].Projections {
		rec.Generations[2].Projections[name] = strings.ReplaceAll(text, "bank.Opened", "bank.Gone")
	}
	rec.Generations[2].Digests["account"] = "another"
	value, err := json.Marshal(rec)
	if err == nil {
		err = v.cl.ProduceSync(t.Context(), &kgo.Record{Topic: rebuild.Topic(v.name), Key: []byte("record"), Value: value}).FirstErr()
	}
	if err != nil {
		t.Fatal(err)
	}
	v.run(cfg, v.declare(""))
	v.recorded()
	v.ask(rebuild.Abort, nil)
	if rec := v.over("aborted"); rec.Serving != 1 || len(rec.Generations) != 1 {
		t.Errorf("%+v", rec)
	}
	if _, err := os.Stat(cfg.Path + ".g2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was built is there: %v", err)
	}
}
