package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/sink"
)

func TestHideURLHidesThePasswordAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://me:s3cret@db:5432/shop?sslmode=require":         "postgres://me:xxxxx@db:5432/shop?sslmode=require",
		"postgres://me@db/shop":                                     "postgres://me@db/shop",
		"postgres://db/shop?user=me&password=s3cret&sslmode=prefer": "postgres://db/shop?user=me&password=xxxxx&sslmode=prefer",
		"postgres://db/shop?sslpassword=s3cret":                     "postgres://db/shop?sslpassword=xxxxx",
		"postgres://db/shop?pass%77ord=s3cret":                      "postgres://db/shop?pass%77ord=xxxxx",
		"postgres://me:s3/cr#et@db/shop":                            "postgres://me:xxxxx@db/shop",
		"postgres://me:12#s3@cret@db/shop":                          "postgres://me:xxxxx@db/shop",
		"host=db user=me password=s3cret dbname=shop":               "host=db user=me password=xxxxx dbname=shop",
		"host=db password = 's3 cr\\'et' dbname=shop":               "host=db password=xxxxx dbname=shop",
		"host=db password=s3\\ cret dbname=shop":                    "host=db password=xxxxx dbname=shop",
		"host=db password='s3 cret":                                 "host=db password=xxxxx",
		"host=db PASSWORD=s3cret":                                   "host=db PASSWORD=xxxxx",
		"redis://:s3cret@cache:6379/1":                              "redis://:xxxxx@cache:6379/1",
		"rediss://me:s3cret@cache/0?dial_timeout=5s":                "rediss://me:xxxxx@cache/0?dial_timeout=5s",
		"http://me:s3cret@registry:8081/apis/ccompat/v7":            "http://me:xxxxx@registry:8081/apis/ccompat/v7",
		"http://registry:8081?apikey=s3cret":                        "http://registry:8081?apikey=xxxxx",
		"":                                                          "",
	} {
		if got := hideURL(in); got != want {
			t.Errorf("%s\n got  %s\n want %s", in, got, want)
		}
	}
}

// What a webhook and a purge are reached by is not shown: address, secret, headers.
func TestTheSecretsOfAWebhookAreHidden(t *testing.T) {
	c := &Config{Sinks: map[string]*sink.Config{
		"hook":  {Kind: "webhook", URL: "https://hooks.example:8443/services/s3cret?x=s3cret", Secret: "whsec_s3cret", Headers: map[string]string{"Authorization": "Bearer s3cret"}},
		"cache": {Kind: "redis", URL: "redis://cache:6379/1", Purge: sink.Purge{URL: "https://cdn.example/service/s3cret/purge", Headers: map[string]string{"Fastly-Key": "s3cret"}}},
		"query": {Kind: "webhook", URL: "https://hooks.example?s3cret"},
		"slash": {Kind: "webhook", URL: "https://hooks.example?sig=s3cret/b"},
	}}
	c.hideSecrets()
	for name, s := range c.Sinks {
		if shown := fmt.Sprintf("%+v", *s); strings.Contains(shown, "s3cret") {
			t.Errorf("%s shows %s", name, shown)
		}
	}
	if c.Sinks["hook"].URL != "https://hooks.example:8443/xxxxx" || c.Sinks["cache"].URL != "redis://cache:6379/1" || c.Sinks["cache"].Purge.URL != "https://cdn.example/xxxxx" {
		t.Errorf("%+v %+v", c.Sinks["hook"], c.Sinks["cache"])
	}
}

// However a password is put into a connection string, rightly or wrongly, it is not shown.
func FuzzThePasswordNeverSurvives(f *testing.F) {
	for _, s := range []string{"s3cret!", "a b'c\\d", "p@ss:w/rd?x#y", "%zz%41%", "'", "\\", "12345", "password=x", "://@://", "é\u202e\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		secret = "<<" + secret + ">>" // nothing else looks like it
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(secret)
		for _, dsn := range []string{
			(&url.URL{Scheme: "postgres", User: url.UserPassword("me", secret), Host: "db:5432", Path: "/shop"}).String(),
			"postgres://me:" + secret + "@db:5432/shop",
			"postgres://db/shop?password=" + url.QueryEscape(secret) + "&sslmode=disable",
			"host=db password='" + quoted + "' dbname=shop",
		} {
			shown := hideURL(dsn)
			for _, form := range []string{secret, quoted, url.QueryEscape(secret), "<<", "%3C%3C", ">>", "%3E%3E"} {
				if strings.Contains(shown, form) {
					t.Fatalf("%q is shown as %q", dsn, shown)
				}
			}
		}
	})
}

// A password of its own need not be escaped, and wins over that of the string.
func TestAPasswordApartFromTheConnectionString(t *testing.T) {
	const odd = "a b'c\\d@e/f?g#h&i%41+"
	for _, dsn := range []string{
		"postgres://me@db:5432/shop", "postgres://me:old@db/shop?sslmode=disable", "host=db user=me password=old", "postgres://me@one:1,two:2/shop?sslmode=disable",
	} {
		cfg, err := pgx.ParseConfig(withPassword(dsn, odd))
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		if cfg.Password != odd || cfg.User != "me" {
			t.Errorf("%s: user %q, password %q", dsn, cfg.User, cfg.Password)
		}
		if shown := hideURL(withPassword(dsn, odd)); strings.Contains(shown, "a b") || strings.Contains(shown, "a+b") {
			t.Errorf("shown: %s", shown)
		}
	}
	if got := withPassword("postgres://me:old@db/shop", ""); got != "postgres://me:old@db/shop" {
		t.Error(got)
	}
}

func TestEverySecretOfTheConfigurationIsHidden(t *testing.T) {
	c := config(t, `
kafka: {brokers: [a], sasl: {mechanism: plain, username: me, password: s3cret-1}}
registry: {url: "http://me:s3cret-2@r:8081", username: me, password: s3cret-3}
outboxes:
  a: {postgres: "postgres://me:s3cret-4@db/shop"}
  b: {postgres: "host=db password=s3cret-5", password: s3cret-7}
sinks:
  cache: {kind: redis, url: "redis://:s3cret-6@cache:6379"}
  search: {kind: opensearch, url: "https://me:s3cret-10@search:9200", password: s3cret-11}
  dwh: {kind: postgres, url: "postgres://me:s3cret-8@db/dwh", password: s3cret-9}
`)
	c.hideSecrets()
	for _, s := range []string{c.Kafka.SASL.Password, c.Registry.URL, c.Registry.Password, c.Outboxes["a"].Postgres, c.Outboxes["b"].Postgres, c.Outboxes["b"].Password, c.Sinks["cache"].URL,
		c.Sinks["search"].URL, c.Sinks["search"].Password, c.Sinks["dwh"].URL, c.Sinks["dwh"].Password} {
		if strings.Contains(s, "s3cret") || !strings.Contains(s, hidden) {
			t.Errorf("shown: %s", s)
		}
	}
}

// What is no connection string is not shown: it may be a password in the wrong place, or one whose URL lost its beginning. Some of it pgx
// would take for a setting of the server.
func TestWhatIsNoConnectionStringIsNotShown(t *testing.T) {
	for _, value := range []string{
		"s3cret", "me:s3cret@db:5432/shop", "me:s3cret@db/shop?sslmode=disable", "//me:s3cret@db/shop", "s3cret=", "pass=s3cret port=x", "s3cret://x y%zz",
		"postgres://me:s3cret@db:port/shop", "postgresql://me:s3cret@db/shop?sslmode=never",
	} {
		for _, key := range []string{"outboxes: {a: {postgres: %q}}", "sinks: {a: {kind: postgres, url: %q}}", "tracing: {otlp: %q}"} {
			_, err := loadText(t, "kafka: {brokers: [a]}\nregistry: {url: http://r}\n"+fmt.Sprintf(key, value)+"\n")
			if err == nil || !strings.Contains(err.Error(), ":3: ") {
				t.Errorf("%s: %v", value, err)
			} else if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("shown: %v", err)
			}
		}
	}
}
