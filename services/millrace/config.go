package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/internal/conf"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// Config is millrace.yaml. Paths in it are relative to the file's folder.
type Config struct {
	Kafka    Kafka    `yaml:"kafka"`
	Registry Registry `yaml:"registry"`
	// Schemas are folders of .avsc files: what `schema push` puts into an outbox and what projections are typed by.
	Schemas []string `yaml:"schemas"`
	// Outboxes by name. The name is part of topics and transactional ids: do not change it.
	Outboxes map[string]*Outbox `yaml:"outboxes"`
	// Backfills by name: first loads of an outbox from tables that were there before it.
	Backfills map[string]*Backfill `yaml:"backfills"`
	// Projections are files, or patterns of them, that say how events become the state of an entity.
	Projections []string `yaml:"projections"`
	// Sinks by name. The name is part of the consumer group and of the dead-letter topic: do not change it.
	Sinks map[string]*sink.Config `yaml:"sinks"`
	HTTP  HTTP                    `yaml:"http"`
	// Tracing sends spans to an OpenTelemetry collector. Off unless configured.
	Tracing Tracing `yaml:"tracing"`

	file *conf.File
	// tracer is nil where no spans are wanted.
	tracer trace.Tracer
	dir    string
}

// Registry says how the schema registry is reached.
type Registry struct {
	// URL is the base of the registry's Confluent-compatible API. Required.
	URL      string `yaml:"url"`
	Username string `yaml:"username"`
	// Password is best given as ${VAR} or ${file:PATH}.
	Password string `yaml:"password"`
	// TLS is for a URL that begins with https://.
	TLS conf.TLS `yaml:"tls"`
	// Timeout bounds each request. Default 5 s.
	Timeout time.Duration `yaml:"timeout"`
}

// carrier is what requests to the registry go by; nil for the default.
func (r Registry) carrier() (http.RoundTripper, error) {
	t, err := r.TLS.Config()
	if t == nil || err != nil {
		return nil, err
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = t
	return base, nil
}

// HTTP says where metrics, health, status, SQL and search are served.
type HTTP struct {
	// Listen is host:port. Default 127.0.0.1:8088.
	Listen string `yaml:"listen"`
	// Pprof serves Go's profiles below /debug/pprof/, which needs a Listen on loopback. Default false.
	Pprof bool `yaml:"pprof"`
}

// Outbox is one outbox: the relay's settings.
type Outbox struct {
	relay.Config `yaml:",inline"`
	// Password is that of the connection string, apart from it so that nothing in it need be escaped; it wins over the string's. Best
	// given as ${VAR} or ${file:PATH}.
	Password string `yaml:"password"`
}

// notes are what a configuration asks for and does not get.
func (c *Config) notes() []string {
	var out []string
	if c.Kafka.SASL.Mechanism == "plain" && c.Kafka.TLS == (conf.TLS{}) {
		out = append(out, "kafka.sasl.mechanism plain without kafka.tls sends the password in clear text")
	}
	for _, name := range sorted(c.Sinks) {
		if err := c.Sinks[name].Available(); err != nil {
			out = append(out, "sinks."+name+" cannot run here: "+err.Error())
		}
	}
	return out
}

func (o *Outbox) schema() string { return cmp.Or(o.Schema, "outbox") }

// load reads and checks the configuration. Its errors name file, line and key.
func (a *app) load() (*Config, error) {
	c := &Config{}
	path := a.file()
	f, err := conf.Load(path, c)
	if errors.Is(err, fs.ErrNotExist) && path == defaultConfig {
		return nil, fmt.Errorf("%w: name yours with --config FILE or $MILLRACE_CONFIG", err)
	}
	if err != nil {
		return nil, err
	}
	c.file, c.dir = f, filepath.Dir(path)
	c.Kafka.ClientID = cmp.Or(c.Kafka.ClientID, "millrace")
	c.HTTP.Listen = cmp.Or(c.HTTP.Listen, "127.0.0.1:8088")
	return c, c.validate()
}

func (c *Config) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.dir, path)
}

// catalogue loads every schema folder.
func (c *Config) catalogue() (*schemas.Catalogue, error) {
	all, err := schemas.NewCatalogue()
	if err != nil {
		return nil, err
	}
	for i, dir := range c.Schemas {
		if fi, err := os.Stat(c.abs(dir)); err != nil || !fi.IsDir() {
			return nil, c.file.Errorf(fmt.Sprintf("schemas.%d", i), "there is no folder %s", c.abs(dir))
		}
		one, err := schemas.LoadDir(c.abs(dir))
		if err != nil {
			return nil, c.file.Errorf(fmt.Sprintf("schemas.%d", i), "%v", err)
		}
		if all, err = all.Merge(one); err != nil {
			return nil, c.file.Errorf(fmt.Sprintf("schemas.%d", i), "%v", err)
		}
	}
	return all, nil
}

// declarations loads every schema folder and every projection file; a pattern that matches nothing is an error.
func (c *Config) declarations() (*schemas.Catalogue, []*projection.Projection, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, nil, err
	}
	patterns := make([]string, len(c.Projections))
	for i, pattern := range c.Projections {
		patterns[i] = c.abs(pattern)
		if found, err := filepath.Glob(patterns[i]); err != nil || len(found) == 0 {
			return nil, nil, c.file.Errorf(fmt.Sprintf("projections.%d", i), "there is no file %s", patterns[i])
		}
	}
	projections, err := projection.Load(catalogue, patterns...)
	if err != nil {
		return nil, nil, c.file.Errorf("projections", "%v", err)
	}
	return catalogue, projections, nil
}

func (c *Config) registry() (*registry.Client, error) {
	carrier, err := c.Registry.carrier()
	if err != nil {
		return nil, c.file.Errorf("registry.tls", "%v", err)
	}
	r, err := registry.New(registry.Config{
		URL: c.Registry.URL, Username: c.Registry.Username, Password: c.Registry.Password, Timeout: c.Registry.Timeout, Transport: carrier,
	})
	if err != nil {
		return nil, c.file.Errorf("registry", "%s", strings.TrimPrefix(err.Error(), "registry "))
	}
	return r, nil
}

// outbox returns an outbox by name; without a name, the only one.
func (c *Config) outbox(name string) (string, *Outbox, error) {
	if name == "" && len(c.Outboxes) == 1 {
		name = sorted(c.Outboxes)[0]
	}
	if o := c.Outboxes[name]; o != nil {
		return name, o, nil
	}
	if name == "" {
		return "", nil, c.file.Errorf("outboxes", "has %d entries: say which with --outbox", len(c.Outboxes))
	}
	return "", nil, c.file.Errorf("outboxes", "has no %q (it has %q)", name, sorted(c.Outboxes))
}

// outboxNames is the name that was given, or all there are.
func (c *Config) outboxNames(only string) ([]string, error) {
	switch {
	case only != "":
		name, _, err := c.outbox(only)
		return []string{name}, err
	case len(c.Outboxes) == 0:
		return nil, c.file.Errorf("outboxes", "names no outbox")
	}
	return sorted(c.Outboxes), nil
}

// eachOutbox calls f for the outbox of the given name, or for every one.
func (a *app) eachOutbox(only string, f func(string, *Outbox) error) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	names, err := c.outboxNames(only)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f(name, c.Outboxes[name]); err != nil {
			return fmt.Errorf("outbox %s: %w", name, outboxAt(name).explain(err))
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
