package sink

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/verify"
	"github.com/millrace/millrace/test/harness"
)

// verified asks a running sink to compare itself with its topic, once it is open and has so many events.
func (r *runningSink) verified(events int64) *verify.Result {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		w := httptest.NewRecorder()
		r.VerifyHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/sinks/x/verify", strings.NewReader("{}")).WithContext(r.t.Context()))
		var last verify.Line
		lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			r.t.Fatalf("%s: %v", w.Body, err)
		}
		if w.Code == http.StatusBadRequest && strings.Contains(last.Error, verify.ErrCannot.Error()) {
			r.t.Fatal("this backend shows no states as of one moment: ", last.Error)
		}
		if last.Result != nil && last.Result.Events == events {
			return last.Result
		}
		if time.Now().After(limit) {
			r.t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

func keysOf(r *verify.Result) string {
	out := ""
	for _, d := range r.Entities["account"].Differences {
		out += fmt.Sprintf("%s %s; ", d.Key, d.Kind)
	}
	return out
}

// A planted difference is found in every backend, while the sink runs, and repaired.
func TestPlantedDifferencesAreFoundAndRepairedInEveryBackend(t *testing.T) {
	for kind, where := range map[string]func(t *testing.T) Config{
		"duckdb":   func(t *testing.T) Config { return Config{Path: t.TempDir() + "/warehouse.duckdb"} },
		"bleve":    func(t *testing.T) Config { return Config{Path: t.TempDir() + "/search"} },
		"postgres": func(t *testing.T) Config { return Config{URL: harness.Postgres(t).DSN} },
		"redis":    func(t *testing.T) Config { return Config{URL: harness.Redis(t).URL, Prefix: harness.Unique("verify")} },
		"opensearch": func(t *testing.T) Config {
			return Config{URL: harness.OpenSearch(t), IndexPrefix: harness.Unique("verify")}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			if missing := kinds[kind].missing; missing != nil {
				t.Skip("this program was built without the backend: ", missing)
			}
			cfg := where(t)
			cfg.Kind = kind
			b := newBank(t)
			all := b.declare("")
			b.open(500)
			s := b.run(cfg, all)
			if out := s.verified(500); out.Differences != 0 {
				t.Fatalf("%+v %+v", out.Entities["account"], out.Bronze)
			}
			s.end()
			b.plant(cfg, all, "account-7", "account-8")
			s = b.run(cfg, all)
			out := s.verified(500)
			if got, want := keysOf(out), "account-7 columns; account-8 columns; "; got != want || out.Differences != 2 {
				t.Fatalf("got %s, want %s", got, want)
			}
			for range 2 {
				b.mend(out)
				if again := s.verified(500); again.Differences != 0 {
					t.Errorf("after the repair: %s", keysOf(again))
				}
			}
			b.open(50) // the keys go on
			if again := s.verified(550); again.Differences != 0 {
				t.Errorf("later: %s", keysOf(again))
			}
			s = b.strange(s, cfg, 550, func() *runningSink { return b.run(cfg, all) })
			b.open(50) // nothing that the stranger did keeps the next events out
			if again := s.verified(600); again.Differences != 0 {
				t.Errorf("later: %s", keysOf(again))
			}
		})
	}
}

// plant changes one state and deletes another, by what nobody but the sink should use.
func (b *bank) plant(cfg Config, all []*projection.Projection, change, remove string) {
	b.t.Helper()
	cfg.Name = b.name
	s, err := New(cfg, Parts{Kafka: b.kafka, Registry: oneSchema{}, Catalogue: b.catalogue(), Projections: all, Logger: discard()})
	if err != nil {
		b.t.Fatal(err)
	}
	st, err := s.make(1, false, s.declared)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if err := st.backend.Close(); err != nil {
			b.t.Error(err)
		}
	}()
	ctx := b.t.Context()
	for _, key := range []string{change, remove} {
		tp := consumers.TopicPartition{Topic: b.topic, Partition: compare.PartitionOf(key, 3)}
		claim, err := st.sink.Claim(ctx, tp)
		if err != nil {
			b.t.Fatal(err)
		}
		held, err := st.sink.Load(ctx, "account", []string{key})
		if err != nil || !held[key].Exists {
			b.t.Fatalf("%s: %+v %v", key, held[key], err)
		}
		wrong := fold.Change{Key: key, Stored: held[key], Existed: true}
		wrong.State = projection.State{}
		if key == change {
			wrong.State = projection.State{Exists: true, Values: []any{"somebody else"}}
		}
		err = st.sink.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: claim.Epoch, From: claim.Next, Next: claim.Next, Replace: true,
			Changes: map[string][]fold.Change{"account": {wrong}}})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// mend repairs what a result shows.
func (b *bank) mend(out *verify.Result) {
	b.t.Helper()
	done, err := verify.Mend(b.t.Context(), b.name, b.kafka, out.BrokenKeys(nil, map[string]string{"account": b.topic}), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range done {
		if m.Outcome != consumers.Done {
			b.t.Errorf("%+v", m)
		}
	}
}

// A store that nobody has open is verified by whoever asks.
func TestAStoreIsVerifiedWithoutItsProcess(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.open(100)
	cfg := Config{Name: b.name, Kind: "bleve", Path: t.TempDir() + "/search"}
	parts := Parts{Kafka: b.kafka, Registry: oneSchema{}, Catalogue: b.catalogue(), Projections: b.declare(""), Logger: discard()}
	s := b.run(cfg, parts.Projections)
	s.verified(100)
	s.end()
	out, err := VerifyHere(t.Context(), cfg, parts, verify.Options{})
	if err != nil || out.Differences != 0 || out.Events != 100 {
		t.Errorf("%+v %v", out, err)
	}
	parts.Projections = b.declare(", amount: event.amount")
	if _, err := VerifyHere(t.Context(), cfg, parts, verify.Options{}); err == nil || !strings.Contains(err.Error(), "account") {
		t.Errorf("with another declaration: %v", err)
	}
	if _, err := os.Stat(cfg.Path); err != nil {
		t.Error(err)
	}
}

func TestVerifyIsChecked(t *testing.T) {
	for text, want := range map[string]uint64{"": 1, "1/1": 1, "1/16": 16} {
		if n, err := ReadSample(text); err != nil || n != want {
			t.Errorf("%q: %d %v", text, n, err)
		}
	}
	for _, text := range []string{"16", "1/0", "2/3", "1/x", "1/-1", "1/99999999"} {
		if _, err := ReadSample(text); err == nil {
			t.Errorf("%q is a share", text)
		}
	}
	for text, cfg := range map[string]Config{
		"verify.every":  {Kind: "bleve", Path: "x", Verify: Verify{Sample: "1/2"}},
		"verify.sample": {Kind: "bleve", Path: "x", Verify: Verify{Every: time.Hour, Sample: "a half"}},
		"verify: ":      {Kind: "webhook", URL: "https://example.com", Topics: []string{"t"}, Verify: Verify{Every: time.Hour}},
	} {
		cfg.Name = "a"
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
