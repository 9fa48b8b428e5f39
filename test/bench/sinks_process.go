package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/test/bench/measure"
	"github.com/millrace/millrace/test/harness"
)

// sinkSetup is a sink to be run. What is not said here is as services/sink sets it for everybody.
type sinkSetup struct {
	topic saleTopic
	// lines are those of the sink's configuration, without its topics and entities.
	lines []string
	// declare says what of an event is kept; empty: there is no projection, only events.
	declare string
	// pid is the process of the server that is written to, 0 if there is none; its children count.
	pid int
}

// The declarations of what is kept: everything, or what a cache needs.
const (
	declareAll = `on:
  bench.SaleMade: {set: {n: event.n, customer_id: event.customer_id, status: event.status, total: event.total, currency: event.currency, quantity: event.quantity,
    placed_at: event.placed_at, city: event.city, zip: event.zip, weight: event.weight, note: event.note, sale_id: event.sale_id}}
search: {keyword: [customer_id, status, currency, city, zip, sale_id], text: [note]}
`
	declareCache = `on:
  bench.SaleMade: {set: {status: event.status}}
cache: {keys: ["'sale:' + key"]}
`
)

// sinkProcess is the real binary at work, with one sink.
type sinkProcess struct {
	name    string
	process *harness.Process
	base    string
}

// startSink writes a configuration into a folder of its own and starts `millrace sink`.
func (r *sinkRig) startSink(s sinkSetup) (*sinkProcess, error) {
	r.runs++
	name := fmt.Sprintf("sink_%d", r.runs)
	dir := filepath.Join(r.dir, name)
	files := map[string]string{"schemas/SaleMade.avsc": saleSchema, "millrace.yaml": r.sinkConfig(name, s)}
	if s.declare != "" {
		files["projections/sale.yaml"] = "entity: sale\ntopic: " + s.topic.name + "\n" + s.declare
	}
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", file, err)
		}
	}
	return r.startMillrace(name, dir, "sink", name)
}

// startMillrace starts the binary in a folder with a millrace.yaml.
func (r *sinkRig) startMillrace(name, dir string, args ...string) (*sinkProcess, error) {
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	p := &sinkProcess{name: name, base: "http://" + listen}
	p.process, err = harness.StartProcess(harness.Command{
		Path: r.binary, Args: append([]string{"-c", filepath.Join(dir, "millrace.yaml")}, append(args, "--listen", listen)...), Dir: dir, Name: name,
	})
	return p, err
}

func (r *sinkRig) sinkConfig(name string, s sinkSetup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kafka: {brokers: [%q]}\nregistry: {url: %q}\nschemas: [schemas]\n", strings.Join(r.kafka.Brokers, `", "`), r.registry.URL)
	if s.declare != "" {
		b.WriteString("projections: [projections/*.yaml]\n")
	}
	fmt.Fprintf(&b, "sinks:\n  %s:\n", name)
	lines := append(append([]string{}, s.lines...), r.opts.Set...)
	if s.declare == "" {
		lines = append(lines, "topics: ["+s.topic.name+"]")
	} else {
		lines = append(lines, "entities: [sale]")
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	if r.opts.Pprof != "" {
		b.WriteString("http: {pprof: true}\n")
	}
	return b.String()
}

func (p *sinkProcess) pid() int { return p.process.PID() }

func (p *sinkProcess) stop() { p.process.End(syscall.SIGTERM) }

// applied is how many events the sink has, by its own account; 0 as long as it does not answer.
func (p *sinkProcess) applied(ctx context.Context) (int64, error) {
	if !p.process.Running() {
		return 0, fmt.Errorf("%s ended by itself; its last output:\n%s", p.name, last(p.process.Output(), 20))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := asking.Do(req)
	if err != nil {
		return 0, ctx.Err() // it has just started
	}
	defer resp.Body.Close()
	var all map[string]consumers.Status
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return 0, fmt.Errorf("read the status of %s: %w", p.name, err)
	}
	var total int64
	for _, part := range all["sink "+p.name].Partitions {
		total += max(part.Position, 0)
	}
	return total, nil
}

// sinkDrained is what it took a sink to take a topic.
type sinkDrained struct {
	rate   float64 // events a second between the first batch being applied and the last
	cpu    float64 // CPU seconds of the sink per million events, between the same instants
	server float64 // CPU seconds of the server that is written to, per million events of the whole run
	broker float64 // of Kafka, likewise
	memory measure.Memory
	peak   float64 // the most memory without pages of files, in MiB, as far as seen
	others float64 // cores busy with anything else meanwhile
}

// How a sink is watched.
const (
	sinkSampleEvery = 20 * time.Millisecond
	sinkStuck       = 90 * time.Second
)

// drainSink runs a sink on a topic that is full until it has all of it.
func (r *sinkRig) drainSink(ctx context.Context, s sinkSetup) (d sinkDrained, err error) {
	before := r.sinkUsage(s.pid)
	began := time.Now()
	p, err := r.startSink(s)
	if err != nil {
		return d, err
	}
	defer p.stop()
	profile := func() error { return nil }
	first, end, err := r.watchSink(ctx, p, s.topic.n, &d, func() { profile = r.profileOf(ctx, p.base, p.name) })
	if err != nil {
		return d, err
	}
	now := r.sinkUsage(s.pid)
	d.rate = perSecond(end.total-first.total, end.at.Sub(first.at))
	d.cpu = perMillion(end.cpu-first.cpu, end.total-first.total)
	d.server = perMillion(now.server-before.server, s.topic.n)
	d.broker = perMillion(now.broker-before.broker, s.topic.n)
	d.memory = measure.MemoryOf(p.pid())
	foreign := (now.machine - before.machine) - (now.known() - before.known()) - measure.CPU(p.pid())
	d.others = max(0, foreign/time.Since(began).Seconds())
	return d, profile()
}

// sinkUsage is the CPU time used so far, in seconds.
type sinkUsage struct{ broker, server, own, registry, machine float64 }

func (r *sinkRig) sinkUsage(server int) sinkUsage {
	u := r.usage()
	return sinkUsage{broker: u.broker, own: u.own, registry: u.registry, server: measure.TreeCPU(server), machine: u.machine}
}

func (u sinkUsage) known() float64 { return u.broker + u.server + u.own + u.registry }

// watchSink follows a sink until it has n events.
func (r *sinkRig) watchSink(ctx context.Context, p *sinkProcess, n int64, d *sinkDrained, begun func()) (first, end instant, err error) {
	var seen atomic.Int64
	tell := r.progress(func() string { return fmt.Sprintf("%s: %s of %s events", p.name, thousands(seen.Load()), thousands(n)) })
	defer tell()
	every := time.NewTicker(sinkSampleEvery)
	defer every.Stop()
	end.at = time.Now()
	for {
		total, err := p.applied(ctx)
		if err != nil {
			return first, end, err
		}
		now := instant{at: time.Now(), total: total}
		switch {
		case total > end.total:
			now.cpu = measure.CPU(p.pid())
			if first.total == 0 {
				first = now
				begun()
			}
			end = now
			seen.Store(total)
			d.peak = max(d.peak, measure.MemoryOf(p.pid()).Anon)
		case now.at.Sub(end.at) > sinkStuck:
			return first, end, fmt.Errorf("%s stays at %d of %d events; its last output:\n%s", p.name, end.total, n, last(p.process.Output(), 20))
		}
		if total >= n {
			return first, end, nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return first, end, context.Cause(ctx)
		}
	}
}

// sinkRows are the figures that every sink has.
func (c caseRows) sinkRows(d sinkDrained, most float64) {
	c.row("events a second, guard and position included", "1/s", d.rate)
	c.row("sink CPU per million events", "s", d.cpu)
	if d.server > 0 {
		c.row("CPU per million of the server written to", "s", d.server)
	}
	c.row("broker CPU per million", "s", d.broker)
	c.row("sink memory, peak resident", "MiB", d.memory.Peak, atMost(most))
	c.row("cores busy with other things", "", d.others)
}
