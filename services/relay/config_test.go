package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func goodConfig() Config {
	return Config{
		Outbox: "shop", Postgres: "postgres://relay:secret@localhost/shop", Kafka: []kgo.Opt{kgo.SeedBrokers("localhost:9092")},
		Registry: fakeRegistry(func(string, string) (int, error) { return 1, nil }), Topics: map[string]Topic{"shop.orders": {}},
	}
}

func TestAWrongConfigurationNamesTheField(t *testing.T) {
	if _, err := New(goodConfig()); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"outbox": func(c *Config) { c.Outbox = "a b" }, "postgres": func(c *Config) { c.Postgres = "" },
		"kafka": func(c *Config) { c.Kafka = nil }, "registry": func(c *Config) { c.Registry = nil },
		"subjects": func(c *Config) { c.Subjects = "x" }, "page_size": func(c *Config) { c.PageSize = -1 },
		"max_record_bytes": func(c *Config) { c.MaxRecordBytes = 1 << 30 }, "replication": func(c *Config) { c.Replication = -2 },
		"poll_max": func(c *Config) { c.PollMax = 1 }, "retry_max": func(c *Config) { c.RetryMax = 1 },
		"retry_min": func(c *Config) { c.RetryMin = -1 }, "publish_timeout": func(c *Config) { c.PublishTimeout = time.Hour },
		"topics":                    func(c *Config) { c.Topics = map[string]Topic{"__x": {}} },
		"topic_defaults.partitions": func(c *Config) { c.TopicDefaults.Partitions = -1 },
		"topics.a.partitions":       func(c *Config) { c.Topics = map[string]Topic{"a": {Partitions: -1}} },
	} {
		c := goodConfig()
		change(&c)
		_, err := New(c)
		var wrong *FieldError
		if !errors.As(err, &wrong) || wrong.Field != field || wrong.Reason == "" || !strings.HasPrefix(err.Error(), "relay: "+field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestAPasswordIsNotInTheError(t *testing.T) {
	c := goodConfig()
	c.Postgres = "postgres://relay:secret@localhost:port/shop"
	if _, err := New(c); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestTopicsInheritTheDefaults(t *testing.T) {
	c := goodConfig()
	c.TopicDefaults = Topic{Partitions: 4, Configs: map[string]string{"a": "1", "b": "2"}}
	c.Topics["shop.orders"] = Topic{Retention: time.Hour, Configs: map[string]string{"b": "3"}}
	got := fmt.Sprint(c.WithDefaults().Topics["shop.orders"])
	if want := fmt.Sprint(Topic{4, -1, time.Hour, ParkKey, map[string]string{"a": "1", "b": "3"}}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCausesOfRestarts(t *testing.T) {
	for want, err := range map[string]error{
		causeFenced: fmt.Errorf("x: %w", kerr.ProducerFenced), causeKafka: kerr.NotEnoughReplicas, causeOther: errors.New("x"),
		causeTimeout: fmt.Errorf("y: %w", context.DeadlineExceeded), causeNetwork: &net.OpError{Op: "dial", Err: errors.New("refused")},
	} {
		if got := cause(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// One line a change of state, not an attempt.
func TestTroubleIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	told := map[string]bool{}
	tr := newTroubles(slog.New(slog.NewTextHandler(&log, nil)), func(part string, yes bool) { told[part] = yes })
	report := tr.report("stream")
	report(nil)
	for range 10 {
		report(errors.New("broker away"))
	}
	if err := tr.current(); err == nil || !strings.Contains(err.Error(), "stream") || !strings.Contains(err.Error(), "broker away") {
		t.Errorf("%v", err)
	}
	if !told["stream"] {
		t.Error("the metric does not show the trouble")
	}
	report(nil)
	report(nil)
	if n := strings.Count(log.String(), "\n"); n != 2 || tr.current() != nil || told["stream"] {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	// Who leads no more is in no trouble with the stream, nor does the metric say so for ever.
	report(errors.New("broker away"))
	tr.report("election")(errors.New("Postgres away"))
	tr.forget("stream", "registry")
	if err := tr.current(); err == nil || strings.Contains(err.Error(), "stream") || told["stream"] || !told["election"] {
		t.Errorf("%v, and the metric says %v", err, told)
	}
	if _, known := told["registry"]; known {
		t.Error("a trouble that there was not has ended")
	}
}

func TestTheRateIsThatOfTheLastTenSeconds(t *testing.T) {
	var m meter
	at := fakeNow
	for range 30 {
		m.add(at, 100)
		at = at.Add(time.Second)
	}
	if got := m.rate(at); got != 100 {
		t.Errorf("steady: %v a second", got)
	}
	if got := m.rate(at.Add(5 * time.Second)); got != 50 {
		t.Errorf("five seconds after the end: %v a second", got)
	}
	if got := m.rate(at.Add(time.Hour)); got != 0 {
		t.Errorf("an hour after the end: %v a second", got)
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	b := backoff{min: 10 * time.Millisecond, max: time.Second}
	for attempt, most := range map[int]time.Duration{0: 10 * time.Millisecond, 3: 80 * time.Millisecond, 20: time.Second, 1 << 20: time.Second} {
		for range 100 {
			if d := b.pause(attempt); d < most/2 || d > most {
				t.Fatalf("attempt %d: %v, want between %v and %v", attempt, d, most/2, most)
			}
		}
	}
}

func TestWorkOutlivesItsContextForAWhile(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	work, end := outlive(ctx, 20*time.Millisecond)
	defer end()
	cancel()
	if work.Err() != nil {
		t.Error("ended at once")
	}
	<-work.Done()
	if context.Cause(work) != errStopTimeout {
		t.Error(context.Cause(work))
	}
}

func TestTopicNames(t *testing.T) {
	for name, good := range map[string]bool{
		"shop.orders": true, "A-b_c.9": true, "_x": true, "": false, ".": false, "..": false, "__x": false, "a/b": false, "ä": false,
		strings.Repeat("a", 249): true, strings.Repeat("a", 250): false, "a b": false,
	} {
		if got := topicNameFault(name) == ""; got != good {
			t.Errorf("%q: %v", name, got)
		}
	}
}
