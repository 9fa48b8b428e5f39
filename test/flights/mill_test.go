package flights

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// mill is the real binary with a configuration of its own.
type mill struct {
	binary, dir, topic string
	// file is the configuration; name stands before the names of sinks, and is the outbox's.
	file, name string
	// servers are Kafka and the registry, as the configuration has them.
	servers string
}

func newMill(t *testing.T, broker *harness.KafkaBroker, registry, dsn string) *mill {
	t.Helper()
	name := harness.Unique("flights")
	m := &mill{binary: harness.Binary(t), dir: t.TempDir(), topic: name + ".flights", file: "millrace.yaml", name: name,
		servers: fmt.Sprintf("kafka: {brokers: [%q]}\nregistry: {url: %q}", strings.Join(broker.Brokers, `","`), registry)}
	copyTree(t, "schemas", filepath.Join(m.dir, "schemas"), m.topic)
	copyTree(t, "projections", filepath.Join(m.dir, "projections"), m.topic)
	broker.DeleteAtEnd(t, m.topic, "__millrace."+name+".cursor", "__millrace."+name+".parked",
		"__millrace."+name+"-warehouse.generations", "__millrace."+name+"-search.generations")
	if err := os.Setenv("DATABASE_URL", dsn); err != nil {
		t.Fatal(err)
	}
	m.configure(t, fmt.Sprintf(`
  %s-warehouse: {kind: duckdb, path: data/warehouse.duckdb, topics: [%s]}
  %s-search: {kind: bleve, path: data/search, entities: [flight]}`, name, m.topic, name))
	return m
}

// onServers is the same outbox followed by sinks on servers, in a process of their own.
func (m *mill) onServers(t *testing.T, postgres, opensearch string) *mill {
	t.Helper()
	later := *m
	later.file = "servers.yaml"
	later.configure(t, fmt.Sprintf(`
  %[1]s-pg: {kind: postgres, url: %[2]q, topics: [%[3]s]}
  %[1]s-os: {kind: opensearch, url: %[4]q, index_prefix: %[1]s, refresh_interval: 200ms, entities: [flight]}`, m.name, postgres, m.topic, opensearch))
	return &later
}

// configure writes the configuration.
func (m *mill) configure(t *testing.T, sinks string) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`%s
schemas: [schemas]
outboxes:
  %s:
    postgres: ${DATABASE_URL}
    topics: {%s: {partitions: 6}}
projections: [projections/*.yaml]
sinks:%s
http: {listen: "127.0.0.1:%d"}
`, m.servers, m.name, m.topic, sinks, port)
	if err := os.WriteFile(filepath.Join(m.dir, m.file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts a command that goes on until it is stopped.
func (m *mill) start(t *testing.T, args ...string) *harness.Process {
	t.Helper()
	return harness.Start(t, harness.Command{Path: m.binary, Args: append([]string{"-c", filepath.Join(m.dir, m.file)}, args...), Name: "millrace " + args[0]})
}

// run runs a command to its end and returns what it printed.
func (m *mill) run(t *testing.T, args ...string) string {
	t.Helper()
	p := m.start(t, args...)
	if code := p.Wait(t, 5*time.Minute); code != 0 {
		t.Fatalf("millrace %s ended with %d:\n%s", strings.Join(args, " "), code, p.Output())
	}
	return p.Stdout()
}

func (m *mill) sql(t *testing.T, query string) [][]any {
	t.Helper()
	var answer struct {
		Rows [][]any `json:"rows"`
	}
	out := m.run(t, "sql", query, "-o", "json")
	dec := json.NewDecoder(strings.NewReader(out))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return answer.Rows
}

// waitCaughtUp waits until every stage has everything, and logs the rate of each.
func (m *mill) waitCaughtUp(t *testing.T, events int64, start time.Time) {
	t.Helper()
	done := map[string]bool{}
	deadline := time.Now().Add(20 * time.Minute)
	for {
		var s struct {
			Outboxes []struct {
				Seq    int64 `json:"seq"`
				Parked int64 `json:"parked"`
				Behind int64 `json:"behind"`
			} `json:"outboxes"`
			Sinks []struct {
				Name     string `json:"name"`
				Lag      int64  `json:"lag"`
				Position int64  `json:"position"`
			} `json:"sinks"`
		}
		out := m.run(t, "status", "-o", "json")
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if len(s.Outboxes) != 1 || len(s.Sinks) != 2 {
			t.Fatalf("status shows %s", out)
		}
		o := s.Outboxes[0]
		if o.Parked > 0 {
			t.Fatalf("%d events are parked", o.Parked)
		}
		if o.Seq == events && !done["relay"] {
			done["relay"] = true
			if m.file == "servers.yaml" {
				continue // it was published before this process began
			}
			rate(t, "published by the relay", events, start)
		}
		for _, k := range s.Sinks {
			if done["relay"] && k.Lag == 0 && !done[k.Name] {
				done[k.Name] = true
				rate(t, "applied by "+k.Name, events, start)
			}
		}
		if len(done) == 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not caught up in time: %s", out)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
