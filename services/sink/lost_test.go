package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// Promise 8: readers never step back, even where somebody has deleted the record of generations: the store says which one serves, the sink goes on with it, and writes the record anew. The next rebuild
// has a number that was never used.
func TestPromise8_ARecordThatSomebodyDeletedIsMadeAnewFromTheStore(t *testing.T) {
	for kind, where := range map[string]func(t *testing.T) Config{
		"duckdb":   func(t *testing.T) Config { return Config{Path: t.TempDir() + "/warehouse.duckdb"} },
		"bleve":    func(t *testing.T) Config { return Config{Path: t.TempDir() + "/search"} },
		"postgres": func(t *testing.T) Config { return Config{URL: harness.Postgres(t).DSN} },
		"redis":    func(t *testing.T) Config { return Config{URL: harness.Redis(t).URL, Prefix: harness.Unique("lost")} },
		"opensearch": func(t *testing.T) Config {
			return Config{URL: harness.OpenSearch(t), IndexPrefix: harness.Unique("lost")}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if missing := kinds[kind].missing; missing != nil {
				t.Skip("this program was built without the backend: ", missing)
			}
			cfg := where(t)
			cfg.Kind = kind
			v := newVault(t)
			v.open(100)
			s := v.run(cfg, v.declare(""))
			s.verified(100)
			v.recorded()
			v.ask(rebuild.Start, nil)
			v.inState(rebuild.Soaking)
			v.ask(rebuild.Finish, nil)
			v.over("done")
			s.end()
			v.deleteRecord()
			cfg.Name = v.name
			if here, err := Serving(t.Context(), cfg, v.kafka); err != nil || here.generation != 2 {
				t.Errorf("who asks finds generation %d: %v", here.generation, err)
			}
			s = v.run(cfg, v.declare(""))
			s.serves(2)
			v.open(50)
			if out := s.verified(150); out.Differences != 0 {
				t.Error(columnsOf(out))
			}
			rec := v.until("the record is written", func(rec rebuild.Record) bool { return rec.Generations[2] != nil })
			if rec.Serving != 2 || rec.Newest <= 2 || rec.Rebuild != nil {
				t.Errorf("%+v", rec)
			}
		})
	}
}

// deleteRecord deletes the topic of generations as somebody may who thinks that nobody needs it.
func (v *vault) deleteRecord() {
	v.t.Helper()
	if _, err := kadm.NewClient(v.cl).DeleteTopic(v.t.Context(), rebuild.Topic(v.name)); err != nil {
		v.t.Fatal(err)
	}
	eventually(v.t, "the record is gone", func() error {
		rec, err := rebuild.Open(v.name, v.kafka...).Read(v.t.Context())
		if err == nil && !rec.At.IsZero() {
			err = errors.New("it is there")
		}
		return err
	})
}

// Where files of two generations are there and the record is gone, nobody can tell which one serves: the sink stops and says what to do.
func TestTwoFilesAndNoRecordAreRefused(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Name: "warehouse", Kind: "duckdb", Path: filepath.Join(dir, "ware[house].duckdb")}
	look := func(want int, words string) {
		t.Helper()
		n, err := cfg.lost(t.Context())
		if text := fmt.Sprint(err); n != want || words == "" && err != nil || !strings.Contains(text, words) || words != "" && consumers.Classify(err) != consumers.Systemic {
			t.Errorf("generation %d, %v", n, err)
		}
	}
	look(0, "")
	for name, of := range map[string]int{"ware[house].gx.duckdb": 0, "ware[house].g7.duckdb": 7} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(name, of, err)
		}
	}
	look(7, "")
	if err := os.WriteFile(cfg.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	look(0, "move away the one that does not")
}
