package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/internal/conf"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// validate says what is wrong with a configuration as far as that can be seen without a server.
func (c *Config) validate() error {
	if err := c.validateKafka(); err != nil {
		return err
	}
	if err := c.validateRegistry(); err != nil {
		return err
	}
	for _, name := range sorted(c.Outboxes) {
		if err := c.validateOutbox(name); err != nil {
			return err
		}
	}
	if err := c.validateApart(); err != nil {
		return err
	}
	if err := c.validateBackfills(); err != nil {
		return err
	}
	if err := c.validateSinks(); err != nil {
		return err
	}
	if err := c.validateTracing(); err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(c.HTTP.Listen); err != nil || port == "" {
		return c.file.Errorf("http.listen", "%q is not host:port, such as 127.0.0.1:8088", c.HTTP.Listen)
	}
	return nil
}

func (c *Config) validateRegistry() error {
	if c.Registry.URL == "" {
		return c.file.Errorf("registry.url", "is missing: the base URL of a Confluent-compatible schema registry")
	}
	if c.Registry.TLS != (conf.TLS{}) && !strings.HasPrefix(strings.ToLower(c.Registry.URL), "https://") {
		return c.file.Errorf("registry.tls", "is for a url that begins with https://")
	}
	if err := c.validateTLS("registry.tls", &c.Registry.TLS); err != nil {
		return err
	}
	_, err := c.registry()
	return err
}

func (c *Config) validateOutbox(name string) error {
	o, key := c.Outboxes[name], "outboxes."+name
	if o == nil || o.Postgres == "" {
		return c.file.Errorf(key+".postgres", "is missing: the connection string of the application's database")
	}
	given := o.Postgres
	o.Postgres = withPassword(given, o.Password)
	if !isConnectionString(o.Postgres) {
		return c.file.Errorf(key+".postgres", "%s is no connection string such as postgres://user:password@host:5432/database", shown(given))
	}
	err := o.prepare(name)
	var field *relay.FieldError
	switch {
	case errors.As(err, &field) && field.Field == "outbox":
		return c.file.Errorf(key, "%s", field.Reason)
	case errors.As(err, &field):
		return c.file.Errorf(key+"."+field.Field, "%s", field.Reason)
	case err != nil:
		return c.file.Errorf(key, "%v", err)
	}
	return nil
}

// isConnectionString says whether Postgres can be reached by s. The errors of pgx are not shown: some repeat parts of the string, which
// can hold a password.
func isConnectionString(s string) bool {
	cfg, err := pgx.ParseConfig(s)
	if err != nil || !urlScheme.MatchString(s) && !whereabouts.MatchString(s) {
		return false
	}
	for name := range cfg.RuntimeParams { // what is none of pgx's is one of the server's: or part of a URL without its beginning
		if !serverParameter.MatchString(name) {
			return false
		}
	}
	return true
}

// whereabouts is what a keyword=value connection string says of where to connect, and as whom. One without any is more likely a password
// with a sign of equality in it.
var whereabouts = regexp.MustCompile(`(?i)(^|\s)(host|hostaddr|port|dbname|database|user|service)\s*=`)

var serverParameter = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// validateApart refuses outboxes that are the same tables, or write to the same topic: versions compare within one outbox and topic.
func (c *Config) validateApart() error {
	tables, topics := map[string]string{}, map[string]string{}
	for _, name := range sorted(c.Outboxes) {
		o := c.Outboxes[name]
		if other, ok := tables[o.Postgres+" "+o.schema()]; ok {
			return c.file.Errorf("outboxes."+name+".postgres", "is that of outbox %s already, and so is the schema: two relays cannot publish one table", other)
		}
		tables[o.Postgres+" "+o.schema()] = name
		for _, topic := range sorted(o.Topics) {
			if other, ok := topics[topic]; ok {
				return c.file.Errorf("outboxes."+name+".topics."+topic, "is a topic of outbox %s already: a topic has one outbox", other)
			}
			topics[topic] = name
		}
	}
	return nil
}

func (c *Config) validateSinks() error {
	paths, caches, indices, warehouses := map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	for _, name := range sorted(c.Sinks) {
		s, key := c.Sinks[name], "sinks."+name
		if s == nil {
			return c.file.Errorf(key, "is empty")
		}
		s.Name = name
		if s.Path != "" {
			s.Path = c.abs(s.Path)
		}
		if s.Gold.Models != "" {
			s.Gold.Models = c.abs(s.Gold.Models)
		}
		if s.Kind == "postgres" {
			if s.URL != "" && !isConnectionString(s.URL) {
				return c.file.Errorf(key+".url", "%s is no connection string such as postgres://user:password@host:5432/database", shown(s.URL))
			}
			s.URL = withPassword(s.URL, s.Password)
		}
		if err := c.sinkError(name, s.Check()); err != nil {
			return err
		}
		if other := paths[s.Path]; s.Path != "" && other != "" {
			return c.file.Errorf(key+".path", "is that of sink %s already", other)
		}
		paths[s.Path] = name
		if s.Kind == "opensearch" {
			if err := c.validateOpenSearch(name, indices); err != nil {
				return err
			}
			continue
		}
		if s.Kind == "postgres" {
			warehouse := s.URL + " " + s.Schema
			if other := warehouses[warehouse]; other != "" {
				return c.file.Errorf(key+".schema", "is needed: sink %s keeps its tables in the same place", other)
			}
			warehouses[warehouse] = name
			continue
		}
		if s.Role() == sink.Webhook {
			if err := c.validateSinkTLS(key, s); err != nil {
				return err
			}
			continue
		}
		cache := fmt.Sprint(s.URL, " ", cmp.Or(s.Prefix, "millrace"))
		if other := caches[cache]; s.URL != "" && other != "" {
			return c.file.Errorf(key+".prefix", "is needed: sink %s keeps its keys in the same place", other)
		}
		caches[cache] = name
	}
	return nil
}

// validateOpenSearch looks at what the sink's own check cannot see: files, and other sinks.
func (c *Config) validateOpenSearch(name string, indices map[string]string) error {
	s, key := c.Sinks[name], "sinks."+name
	if err := c.validateSinkTLS(key, s); err != nil {
		return err
	}
	place := fmt.Sprint(s.URL, " ", cmp.Or(s.IndexPrefix, "millrace"))
	if other := indices[place]; other != "" {
		return c.file.Errorf(key+".index_prefix", "is needed: sink %s keeps its indices in the same place", other)
	}
	indices[place] = name
	return nil
}

func (c *Config) validateSinkTLS(key string, s *sink.Config) error {
	if s.TLS != (conf.TLS{}) && !strings.HasPrefix(strings.ToLower(s.URL), "https://") {
		return c.file.Errorf(key+".tls", "is for a url that begins with https://")
	}
	return c.validateTLS(key+".tls", &s.TLS)
}

// sinkError gives an error about a sink's configuration its place in the file.
func (c *Config) sinkError(name string, err error) error {
	var wrong *sink.ConfigError
	switch {
	case errors.As(err, &wrong) && wrong.Key == "name":
		return c.file.Errorf("sinks."+name, "%v", wrong.Err)
	case errors.As(err, &wrong):
		return c.file.Errorf("sinks."+name+"."+wrong.Key, "%v", wrong.Err)
	case err != nil:
		return fmt.Errorf("sink %s: %w", name, err)
	}
	return nil
}

func (o *Outbox) prepare(name string) error {
	o.Outbox = name
	return o.Config.WithDefaults().Check()
}

func (c *Config) validateKafka() error {
	switch m := c.Kafka.SASL.Mechanism; {
	case len(c.Kafka.Brokers) == 0:
		return c.file.Errorf("kafka.brokers", "is missing: host:port of at least one broker")
	case m != "" && m != "plain" && m != "scram-sha-256" && m != "scram-sha-512":
		return c.file.Errorf("kafka.sasl.mechanism", "%q is none of plain, scram-sha-256, scram-sha-512", m)
	case m == "" && c.Kafka.SASL != SASL{}:
		return c.file.Errorf("kafka.sasl.mechanism", "is missing: plain, scram-sha-256 or scram-sha-512")
	}
	return c.validateTLS("kafka.tls", &c.Kafka.TLS)
}

// validateTLS makes paths relative to the file's folder and looks whether what they name can be used.
func (c *Config) validateTLS(key string, t *conf.TLS) error {
	if (t.Cert == "") != (t.Key == "") {
		return c.file.Errorf(key, "cert and key go together")
	}
	for _, path := range []*string{&t.CA, &t.Cert, &t.Key} {
		if *path != "" {
			*path = c.abs(*path)
		}
	}
	_, err := t.Config()
	var pe *os.PathError
	switch {
	case errors.As(err, &pe) && pe.Path == t.CA:
		return c.file.Errorf(key+".ca", "%v", err)
	case err != nil:
		return c.file.Errorf(key, "%v", err)
	}
	return nil
}
