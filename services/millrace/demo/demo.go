// Package demo is the main job in one command: an application, the relay, three sinks, a kill -9 in mid-run, and the proof that
// nothing was lost, doubled or put out of order. Relay and sinks are the real binary in processes of their own; only the servers
// beside them are made for trying out, unless real ones are named.
//
//	demo.go      Config, Run: the story from beginning to end
//	world.go     the servers: of the demo's own, or those that were named (named.go), and what is removed from these at the end
//	files.go     what a user would write: millrace.yaml, schemas, projections
//	process.go   the relay and the sinks as children
//	drive.go     the shop at work, the kill, catching up
//	watch.go     asking the children how far they are
//	view.go      the live view, and the plain one; stages.go its lines
//	results.go   what people came for
//	proof.go     the proof; documents.go its part about the application's own tables
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/services/shop"
)

// Config says how large the demo is and what it runs against. Zero values mean the documented default.
type Config struct {
	// Events is how many events the shop writes. Default 25,000.
	Events int64
	// Open is how long the shop stays open at most, however many events it has written by then. Default: until it has written all,
	// but 40 s if Events is not set, so that the default run has its end on a busy machine, too.
	Open time.Duration
	// Rate bounds the events a second; negative means as fast as it goes. Default 1,000.
	Rate float64
	// Keep is a folder for everything the run leaves: configuration, data and logs. Default: a temporary one, removed at the end.
	Keep string
	// Postgres, Kafka (host:port,...), Registry and Redis name real servers to use instead of the demo's own parts.
	Postgres, Kafka, Registry, Redis string
	// Seed makes two runs alike, as far as concurrency lets them. Default 1.
	Seed uint64
	// Binary is the program to start as relay and as sinks. Default: this one.
	Binary string
	// Out is where the story is told; Terminal says that a person watches it live.
	Out      io.Writer
	Terminal bool
}

var (
	// ErrNotProved is returned when the proof fails.
	ErrNotProved = errors.New("the proof failed")
	// ErrStopped is returned when the context ended, or a person pressed Ctrl-C.
	ErrStopped = errors.New("stopped")
)

func (c Config) withDefaults() (Config, error) {
	if c.Events == 0 {
		c.Events = DefaultEvents
		c.Open = cmp.Or(c.Open, defaultOpen)
	}
	if c.Rate == 0 {
		c.Rate = 1000
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Events < minEvents {
		return c, fmt.Errorf("--events %d is too few to see anything: at least %d", c.Events, minEvents)
	}
	if c.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find this program: %w", err)
		}
		c.Binary = self
	}
	return c, nil
}

// DefaultEvents is how many events the shop writes if it is not told otherwise.
const DefaultEvents = 25_000

const (
	minEvents   = 1000
	defaultOpen = 40 * time.Second
)

// demo is one run.
type demo struct {
	cfg   Config
	world *world
	site  *site
	began time.Time // of everything
	start time.Time // of the shop
	relay *process
	sinks *process
	pool  *pgxpool.Pool
	shop  *shop.Shop
	total int64 // events in the database when the shop had closed
	// interrupt ends the run as Ctrl-C does.
	interrupt func()
}

// Run tells the story. It returns ErrNotProved if the proof fails, and ErrStopped if it was stopped. What it started, and what it
// left on servers that were named, is gone when it returns, unless it is to be kept.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return err
	}
	dir, remove, err := folder(cfg.Keep)
	if err != nil {
		return err
	}
	d := &demo{cfg: cfg, world: &world{}, site: &site{dir: dir}, began: time.Now()}
	if cfg.Postgres != "" || cfg.Kafka != "" || cfg.Redis != "" || cfg.Registry != "" {
		d.world.name = "millrace-demo-" + uuid.NewString()[:8]
	}
	ctx, d.interrupt = context.WithCancel(ctx)
	defer func() {
		if ctx.Err() != nil {
			d.line("\n" + faint.Render("stopping …"))
			err = ErrStopped // whatever failed, failed for that
		}
		err = errors.Join(err, d.stop(), remove())
		d.interrupt()
	}()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.drive(ctx); err != nil {
		return err
	}
	if err := d.results(ctx); err != nil {
		return err
	}
	return d.prove(ctx)
}

func (d *demo) line(text string) { fmt.Fprintln(d.cfg.Out, text) }

// folder returns the folder of the run and what removes it. An unprivileged PostgreSQL must be able to pass it.
func folder(keep string) (dir string, remove func() error, err error) {
	if keep != "" {
		if dir, err = filepath.Abs(keep); err != nil {
			return "", nil, err
		}
		if _, err := os.Stat(filepath.Join(dir, "millrace.yaml")); err == nil {
			return "", nil, fmt.Errorf("--keep %s holds a run already: name another folder", keep)
		}
		return dir, func() error { return nil }, os.MkdirAll(dir, 0o755)
	}
	if dir, err = os.MkdirTemp("", "millrace-demo-"); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, os.Chmod(dir, 0o755)
}

// prepare starts the servers, writes the files and starts the real binary in its two roles.
func (d *demo) prepare(ctx context.Context) error {
	d.line(bold.Render("millrace demo") + faint.Render("  an application's events, to everything that follows them"))
	d.line("")
	say := func(p part) {
		d.line("  " + good.Render("✓") + " " + fmt.Sprintf("%-12s", p.name) + faint.Render(p.what))
	}
	working := func(what string) { d.line("  " + faint.Render("… "+what)) }
	if err := d.world.start(ctx, d.cfg, d.site.dir, say, working); err != nil {
		return err
	}
	if err := d.site.write(d.world); err != nil {
		return err
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	if _, err := migrate.Up(ctx, d.pool); err != nil {
		return fmt.Errorf("create the outbox: %w", err)
	}
	var err error
	if d.sinks, err = spawn(d.cfg.Binary, d.site, "sinks", "sink", d.world.sinkName("warehouse"), d.world.sinkName("search"), d.world.sinkName("cache")); err != nil {
		return err
	}
	say(part{"Sinks", fmt.Sprintf("process %d: warehouse (DuckDB), search (bleve), cache", d.sinks.pid())})
	if err := d.startRelay(); err != nil {
		return err
	}
	say(part{"Relay", fmt.Sprintf("process %d: outbox to Kafka, exactly once", d.relay.pid())})
	if d.cfg.Keep != "" {
		say(part{"Files", d.site.dir})
	}
	d.line("")
	return nil
}

// connections is how many the shop uses at most.
const connections = 16

func (d *demo) connect(ctx context.Context) error {
	cfg, err := pgxpool.ParseConfig(d.world.postgres)
	if err != nil {
		return fmt.Errorf("--postgres: %w", err)
	}
	cfg.MaxConns = connections
	if d.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return fmt.Errorf("connect to the application's database: %w", err)
	}
	d.world.atEnd(func() error { d.pool.Close(); return nil })
	return nil
}

func (d *demo) startRelay() (err error) {
	d.relay, err = spawn(d.cfg.Binary, d.site, "relay", "relay", "--listen", d.site.relayHTTP)
	return err
}

// stop ends everything, in the reverse order.
func (d *demo) stop() error {
	var errs []error
	for _, p := range []*process{d.relay, d.sinks} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(append(errs, d.world.stop())...)
}

// quiet is for parts that have nothing to say to a person who watches.
var quiet = slog.New(slog.DiscardHandler)
