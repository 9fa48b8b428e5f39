package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/services/internal/conf"
	"github.com/millrace/millrace/services/relay"
)

// config loads a configuration that must be right.
func config(t *testing.T, text string) *Config {
	t.Helper()
	c, err := loadText(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return (&app{path: path}).load()
}

const head = "kafka: {brokers: [\"localhost:9092\"]}\nregistry: {url: \"http://localhost:8081\"}\n"

func TestLoadSetsDefaultsAndFindsPaths(t *testing.T) {
	c := config(t, head+`
outboxes: {shop: {postgres: "postgres://db/shop", topics: {shop.orders: {retention: 7d}}}}
sinks:
  warehouse: {kind: duckdb, path: data/w.duckdb}
  search: {kind: bleve, path: /var/lib/search}
`)
	if c.HTTP.Listen != "127.0.0.1:8088" || c.Kafka.ClientID != "millrace" {
		t.Errorf("%+v", c)
	}
	if got := c.Sinks["warehouse"].Path; got != filepath.Join(c.dir, "data/w.duckdb") {
		t.Error(got)
	}
	if got := c.Sinks["search"].Path; got != "/var/lib/search" {
		t.Error(got)
	}
	if got := c.Outboxes["shop"].Topics["shop.orders"].Retention; got != 7*24*time.Hour {
		t.Error(got)
	}
	if c.Outboxes["shop"].Outbox != "shop" || c.Outboxes["shop"].schema() != "outbox" {
		t.Errorf("%+v", c.Outboxes["shop"])
	}
}

func TestRetentionIsAnAgeOrMore(t *testing.T) {
	for text, want := range map[string]relay.Retention{
		"7d":                      {Age: 7 * 24 * time.Hour},
		"forever":                 {Age: conf.Forever},
		"{age: 36h, size: 20GiB}": {Age: 36 * time.Hour, Size: 20 << 30},
		"{size: 1.5MB}":           {Size: 1_500_000},
	} {
		c := config(t, head+"outboxes: {shop: {postgres: \"postgres://db/shop\", retention: "+text+"}}\n")
		if got := c.Outboxes["shop"].Retention; got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
		printed, err := c.text(false)
		if err != nil {
			t.Fatal(err)
		}
		if again := config(t, printed).Outboxes["shop"].Retention; again != want {
			t.Errorf("%s: printed and read again: %+v\n%s", text, again, printed)
		}
	}
}

// What no server is needed to see is an *conf.Error with its line: main_test and test/e2e see it printed.
func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{head + "outboxes:\n  a: {postgres: \"postgres://db/x\"}\n  b: {postgres: \"postgres://db/x\"}\n",
			":5: outboxes.b.postgres: is that of outbox a already, and so is the schema: two relays cannot publish one table"},
		{head + "outboxes:\n  a: {postgres: \"postgres://db/x\", topics: {t: {}}}\n  b: {postgres: \"postgres://db/y\", topics: {t: {}}}\n",
			":5: outboxes.b.topics.t: is a topic of outbox a already: a topic has one outbox"},
		{head + "sinks:\n  a: {kind: redis, url: \"redis://h\"}\n  b: {kind: redis, url: \"redis://h\", prefix: millrace}\n",
			":5: sinks.b.prefix: is needed: sink a keeps its keys in the same place"},
		{head + "sinks:\n  a: {kind: opensearch, url: \"http://h\"}\n  b: {kind: opensearch, url: \"http://h\", index_prefix: millrace}\n",
			":5: sinks.b.index_prefix: is needed: sink a keeps its indices in the same place"},
		{head + "sinks:\n  a:\n    kind: opensearch\n    url: http://h\n    tls: {ca: x.pem}\n", ":7: sinks.a.tls: is for a url that begins with https://"},
		{head + "sinks:\n  a:\n    kind: opensearch\n    url: https://h\n    tls: {ca: x.pem}\n", ":7: sinks.a.tls.ca: "},
		{head + "sinks:\n  a: {kind: postgres, url: \"postgres://h/x\"}\n  b: {kind: postgres, url: \"postgres://h/x\"}\n",
			":5: sinks.b.schema: is needed: sink a keeps its tables in the same place"},
		{head + "sinks:\n  a:\n    kind: postgres\n    url: postgres://me:s3cret@h:port/x\n", ":6: sinks.a.url: \"postgres://me:xxxxx@h:port/x\" is no connection string"},
		{head + "outboxes:\n  a:\n    postgres: postgres://h/x\n    retention: 7\n", `:6: outboxes.a.retention: "7" is no duration`},
		{head + "outboxes:\n  a:\n    postgres: postgres://h/x\n    retention: {size: 20}\n", `:6: outboxes.a.retention.size: "20" is no size: write for example 512MiB or 20GiB`},
		{head + "outboxes:\n  a:\n    postgres: postgres://h/x\n    retention: {ages: 7d}\n", `:6: outboxes.a.retention.ages: unknown key`},
		{"registry: {url: \"http://r\"}\n", ": kafka.brokers: is missing"},
		{"kafka: {brokers: [a]}\n", ": registry.url: is missing"},
		{"kafka: {brokers: [a]}\nregistry: {url: \"r:8081\"}\n", ":2: registry: url: not a URL"},
		{"kafka: {brokers: [a]}\nregistry: {url: \"ftp://me:s3cret@r\"}\n", ":2: registry: url: not a URL"},
		{head + "outboxes:\n  a:\n", ":4: outboxes.a.postgres: is missing"},
		{head + "outboxes:\n  a:\n    postgres: x\n", `:5: outboxes.a.postgres: this (not shown, for it may hold a password) is no connection string`},
		{head + "outboxes:\n  a:\n    postgres: postgres://me:s3cret@h:port/x\n", `:5: outboxes.a.postgres: "postgres://me:xxxxx@h:port/x" is no connection string`},
		{head + "outboxes:\n  a b: {postgres: \"postgres://h/x\"}\n", `:4: outboxes.a b: "a b" is not 1 to 100 characters`},
		{head + "outboxes:\n  a:\n    postgres: postgres://h/x\n    topics:\n      a.b:\n        partitions: -3\n", `:8: outboxes.a.topics.a.b.partitions: -3 is outside 1..10000`},
		{head + "outboxes:\n  a:\n    postgres: postgres://h/x\n    page_size: -3\n", `:6: outboxes.a.page_size: -3 is outside`},
		{head + "sinks:\n  a:\n", ":4: sinks.a: is empty"},
		{head + "sinks:\n  a/b: {kind: bleve, path: x}\n", `:4: sinks.a/b: "a/b" is not 1 to 100 characters`},
		{head + "sinks:\n  a: {path: x}\n", ":4: sinks.a.kind: is missing: one of bleve, duckdb, opensearch, postgres, redis"},
		{head + "sinks:\n  a:\n    kind: redis\n    url: redis://:s3cret@h:port\n", ":6: sinks.a.url: the URL is not understood"},
		{head + "sinks:\n  a: {kind: bleve, path: x}\n  b: {kind: bleve, path: ./x}\n", ":5: sinks.b.path: is that of sink a already"},
		{head + "http: {listen: \"8088\"}\n", ":3: http.listen: \"8088\" is not host:port"},
		{"kafka: {brokers: [a], sasl: {mechanism: md5}}\n", ":1: kafka.sasl.mechanism: \"md5\" is none of"},
		{"kafka: {brokers: [a], sasl: {username: me}}\n", ":1: kafka.sasl.mechanism: is missing"},
		{"kafka: {brokers: [a], tls: {cert: x}}\n", ":1: kafka.tls: cert and key go together"},
		{"kafka: {brokers: [a], tls: {ca: /nonexistent/ca.pem}}\n", ":1: kafka.tls.ca: "},
	} {
		_, err := loadText(t, c.text)
		if err == nil || !strings.Contains(err.Error(), "millrace.yaml"+c.want) {
			t.Errorf("%s\n got  %v\n want %s", c.text, err, c.want)
			continue
		}
		if _, ok := err.(*conf.Error); !ok {
			t.Errorf("%T is no *conf.Error: %v", err, err)
		}
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
}

func TestOutboxByName(t *testing.T) {
	c := config(t, head+"outboxes: {a: {postgres: \"postgres://h/a\"}, b: {postgres: \"postgres://h/b\"}}\n")
	if name, _, err := c.outbox("b"); err != nil || name != "b" {
		t.Error(name, err)
	}
	for name, want := range map[string]string{
		"":  `has 2 entries: say which with --outbox`,
		"c": `has no "c" (it has ["a" "b"])`,
	} {
		if _, _, err := c.outbox(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	c = config(t, head+"outboxes: {a: {postgres: \"postgres://h/a\"}}\n")
	if name, _, err := c.outbox(""); err != nil || name != "a" {
		t.Errorf("the only one needs no name: %s %v", name, err)
	}
}
