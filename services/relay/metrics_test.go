package relay_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/relay"
)

var metricName = regexp.MustCompile(`millrace_relay_[a-z_]+`)

// documented are the rows of the table of metrics: what is alerted on, by metric.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `millrace_relay_") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 {
			t.Fatalf("%d cells: %s", len(cells), line)
		}
		name := metricName.FindString(cells[0])
		if _, twice := rows[name]; twice || strings.TrimSpace(cells[1]) == "" {
			t.Errorf("%s stands there twice, or without a word", name)
		}
		rows[name] = nil
		for _, q := range quoted.FindAllStringSubmatch(cells[2], -1) {
			if metricName.MatchString(q[1]) {
				rows[name] = append(rows[name], q[1])
			}
		}
	}
	return rows
}

// What the table documents is what there is, at zero from the start, and alerts ask for nothing else.
func TestTheTableOfMetricsIsTheMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	_, err := relay.New(relay.Config{
		Outbox: "shop", Postgres: "postgres://localhost/shop", Kafka: []kgo.Opt{kgo.SeedBrokers("localhost:1")},
		Registry: &memoryRegistry{}, Metrics: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := documented(t)
	there := map[string]bool{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		there[f.GetName()] = true
		if _, ok := rows[f.GetName()]; !ok {
			t.Errorf("%s is not in the table of README.md", f.GetName())
		}
		if len(f.GetMetric()) == 0 || f.GetMetric()[0].GetLabel()[0].GetName() != "outbox" && len(f.GetMetric()[0].GetLabel()) == 1 {
			t.Errorf("%s is not there from the start, or not by outbox", f.GetName())
		}
	}
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	for name, alerts := range rows {
		if !there[name] {
			t.Errorf("%s is in the table of README.md, and nowhere else", name)
		}
		for _, alert := range alerts {
			for _, asked := range metricName.FindAllString(alert, -1) {
				if !there[asked] && !there[suffix.ReplaceAllString(asked, "")] {
					t.Errorf("an alert of %s asks for %s, which there is not: %s", name, asked, alert)
				}
			}
		}
	}
	if len(there) < 20 {
		t.Errorf("%d metrics", len(there))
	}
}

// scrape returns the gauges and counters of a registry, series as PromQL names them without the label outbox.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "outbox" {
					name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
				}
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

var condition = regexp.MustCompile(`^(time\(\) - )?(?:max by \(outbox\) \()?(millrace_relay_[a-z_]+(?:\{[^}]*\})?)\)? (==|>) ([0-9.]+)$`)

// holds works out the part of PromQL that alerts without a rate are written in. known is false for others.
func holds(alert string, series map[string]float64) (yes, known bool) {
	if left, right, two := strings.Cut(alert, " unless on (outbox) "); two {
		a, known1 := holds(left, series)
		b, known2 := holds(right, series)
		return a && !b, known1 && known2
	}
	if left, right, two := strings.Cut(alert, " and on (outbox, instance) "); two {
		a, known1 := holds(left, series)
		b, known2 := holds(right, series)
		return a && b, known1 && known2
	}
	c := condition.FindStringSubmatch(alert)
	if c == nil {
		return false, false
	}
	limit, _ := strconv.ParseFloat(c[4], 64)
	for name, value := range series {
		if name != c[2] && !strings.HasPrefix(name, c[2]+"{") {
			continue
		}
		if c[1] != "" {
			value = float64(time.Now().Unix()) - value
		}
		if c[3] == "==" && value == limit || c[3] == ">" && value > limit {
			return true, true
		}
	}
	return false, true
}

// firing returns the metrics whose alerts hold now, in order.
func firing(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	series := scrape(t, reg)
	var out []string
	known := 0
	for name, alerts := range documented(t) {
		for _, alert := range alerts {
			yes, ok := holds(alert, series)
			if ok {
				known++
			}
			if yes {
				out = append(out, strings.TrimPrefix(name, "millrace_relay_"))
			}
		}
	}
	if known < 7 {
		t.Fatalf("%d alerts can be worked out", known)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// wire is how a client reaches Kafka until it is cut.
type wire struct {
	mu    sync.Mutex // guards the following
	cut   bool
	conns map[net.Conn]bool
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.New("the wire is cut")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		w.conns[conn] = true
	}
	return conn, err
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for conn := range maps.Keys(w.conns) {
			conn.Close()
		}
		clear(w.conns)
	}
}

// That the table has rows and nothing was sent is seen from the metrics alone, whatever keeps them from being sent.
func TestWhatIsNotSentIsSeenFromMetrics(t *testing.T) {
	t.Parallel()
	ids := &memoryRegistry{}
	r := newRig(t, fakeBroker(t), ids)
	kafka, reg := &wire{conns: map[net.Conn]bool{}}, prometheus.NewRegistry()
	run := r.run(func(c *relay.Config) {
		c.Kafka = append(c.Kafka, kgo.Dialer(kafka.dial))
		c.Metrics, c.RegistryGrace = reg, time.Hour
	})
	a := r.asker()
	fires := func(what, want string) {
		t.Helper()
		eventually(t, what, func() error {
			if got := firing(t, reg); got != want {
				return fmt.Errorf("%q fires, not %q: %v", got, want, scrape(t, reg))
			}
			return nil
		})
	}
	// late writes an event that has waited for ten minutes.
	late := func(schema string) {
		t.Helper()
		s, err := schemas.Parse(schema)
		if err != nil {
			t.Fatal(err)
		}
		r.exec(`insert into outbox.event (topic, key, type, schema_fp, body, occurred_at)
			values ($1, 'k', 'test.Counted', $2, '{"key": "k", "n": 1}', now() - interval '10 minutes')`, r.topic, s.Fingerprint[:])
	}
	r.emit("k", 1)
	run.untilSeq(1)
	fires("all is well", "")

	kafka.set(true)
	late(countedSchema(r.topic))
	fires("Kafka is away", "leader oldest_unpublished_age_seconds trouble")
	late(countedSchema(r.topic)) // while no session is up
	eventually(t, "both to be counted", func() error {
		if n := scrape(t, reg)["millrace_relay_backlog_events"]; n != 2 {
			return fmt.Errorf("%v events are behind", n)
		}
		return nil
	})
	kafka.set(false)
	run.untilSeq(3)
	fires("Kafka is back", "")

	r.answer(a)(a.Pause(t.Context(), "a test"))
	late(countedSchema(r.topic))
	run.until("the backlog to be seen", func(s relay.Status) bool { return s.Backlog == 1 })
	fires("the outbox is paused", "paused")
	r.answer(a)(a.Resume(t.Context()))
	run.untilSeq(4)
	fires("the outbox is resumed", "")

	ids.set(func(string, string) error { return errUnavailable })
	r.mend()
	late(r.laterSchema())
	fires("the registry is away", "oldest_unpublished_age_seconds trouble")
	ids.set(nil)
	run.untilSeq(5)
	fires("the registry is back", "")
}
