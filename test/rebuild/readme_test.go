package rebuild

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// chapter is the heading of the walk-through in README.md.
const chapter = "## Change a projection, roll it out, roll it back\n"

// The walk-through of README.md is true: its projection is changed as it says, its commands are typed as they stand there, and what they print looks as it looks
// there, but for numbers and times.
func TestTheWalkThroughOfTheREADME(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(harness.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(raw)
	_, walk, found := strings.Cut(readme, chapter)
	if !found {
		t.Fatalf("README.md has no chapter %q", chapter)
	}
	walk, _, _ = strings.Cut(walk, "\n## ")
	_, declared, _ := strings.Cut(readme, "```yaml\nentity: order\n")
	declared, _, _ = strings.Cut(declared, "```")

	s := newShop(t, "entity: order\n"+declared)
	typed := 0
	for _, b := range blocks(walk) {
		switch b.language {
		case "diff":
			s.edit(b.text)
			s.restart()
		case "console":
			typed += s.types(b.text)
		}
	}
	if typed < 6 {
		t.Errorf("%d commands were typed: is the walk-through read rightly?", typed)
	}
}

type block struct{ language, text string }

var fence = regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```")

func blocks(text string) (all []block) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		all = append(all, block{m[1], m[2]})
	}
	return all
}

// shop is the site of the README: an outbox with orders, and a warehouse that follows.
type shop struct {
	*rig
	order string // the projection
}

func newShop(t *testing.T, declared string) *shop {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	broker, db := harness.Kafka(t), harness.Postgres(t)
	r := &rig{t: t, kind: "duckdb", broker: broker, registry: harness.Registry(t), name: harness.Unique("warehouse"), dir: t.TempDir(), listen: fmt.Sprintf("127.0.0.1:%d", port)}
	r.topic = r.name + ".orders"
	outbox := r.name + "-shop"
	broker.DeleteAtEnd(t, r.topic, consumers.DeadLetterTopic(r.name), consumers.ControlTopic(r.name), rebuild.Topic(r.name), "__millrace."+outbox+".cursor", "__millrace."+outbox+".parked")
	s := &shop{rig: r, order: strings.ReplaceAll(declared, "shop.orders", r.topic)}
	s.write("projections/order.yaml", s.order)
	files, err := filepath.Glob(filepath.Join(harness.Root(t), "schemas", "shop", "Order*.avsc"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Join("schemas", filepath.Base(f)), strings.ReplaceAll(string(text), "shop.orders", r.topic))
	}
	s.write("millrace.yaml", fmt.Sprintf(`
kafka: {brokers: [%q]}
registry: {url: %q}
schemas: [schemas]
outboxes: {%s: {postgres: %q, topics: {%s: {partitions: 2}}}}
projections: [projections/*.yaml]
sinks: {%s: {kind: duckdb, path: data/warehouse.duckdb, topics: [%s]}}
http: {listen: %q}
`, broker.Brokers[0], r.registry, outbox, db.DSN, r.topic, r.name, r.topic, r.listen))
	s.ok("migrate", "up")
	s.ok("schema", "push")
	conn := db.Conn(t)
	for i := range 500 {
		_, err := conn.Exec(t.Context(), `select outbox.emit('shop.OrderPlaced', null, jsonb_build_object('order_id', $1::text, 'customer_id', 'c-7', 'lines', '[]'::jsonb,
			'total', '12.50', 'currency', 'EUR', 'placed_at', '2026-03-01T10:00:00Z'))`, fmt.Sprintf("o-%d", i))
		if err == nil && i%5 > 0 {
			_, err = conn.Exec(t.Context(), `select outbox.emit('shop.OrderPaid', null, jsonb_build_object('order_id', $1::text, 'amount', '12.50', 'method', 'card',
				'paid_at', '2026-03-01T10:05:00Z'))`, fmt.Sprintf("o-%d", i))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.up()
	s.eventually("every order to be in the warehouse", func() error {
		var answer struct{ Rows [][]any }
		err := call(t.Context(), "POST", "http://"+r.listen+"/v1/sinks/"+r.name+"/sql", map[string]any{"sql": "select count(*) from bronze.events"}, &answer)
		if err == nil && fmt.Sprint(answer.Rows[0][0]) != "900" {
			err = fmt.Errorf("it has %v events", answer.Rows[0][0])
		}
		return err
	})
	s.until("the declarations to be recorded", func(rec rebuild.Record) bool { return rec.Generations[1] != nil })
	return s
}

// up runs everything in one process.
func (s *shop) up() {
	s.t.Helper()
	p := &process{Process: harness.Start(s.t, harness.Command{Path: harness.Binary(s.t), Args: []string{"-c", "millrace.yaml", "up"}, Dir: s.dir, Name: s.name, Env: []string{"MILLRACE_CONFIG="}})}
	s.proc = p
}

func (s *shop) restart() {
	s.t.Helper()
	s.stop()
	s.up()
	s.eventually("the sink to answer", func() error {
		return call(s.t.Context(), "POST", "http://"+s.listen+"/v1/sinks/"+s.name+"/sql", map[string]any{"sql": "select 1"}, new(any))
	})
}

// edit changes the projection as a diff says.
func (s *shop) edit(diff string) {
	s.t.Helper()
	var gone, come []string
	for _, line := range strings.Split(strings.TrimRight(diff, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "-"):
			gone = append(gone, line[1:])
		case strings.HasPrefix(line, "+"):
			come = append(come, line[1:])
		}
	}
	before, after := strings.Join(gone, "\n"), strings.Join(come, "\n")
	if strings.Count(s.order, before) != 1 {
		s.t.Fatalf("the projection\n%s\ndoes not have the line\n%s", s.order, before)
	}
	s.order = strings.Replace(s.order, before, after, 1)
	s.write("projections/order.yaml", s.order)
}

// types runs the commands of a block, and compares what they print.
func (s *shop) types(text string) (typed int) {
	s.t.Helper()
	for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
		line, want, _ := strings.Cut(part, "\n")
		line, _, _ = strings.Cut(line, "   #")
		p := harness.Start(s.t, harness.Command{Path: "/bin/sh", Args: []string{"-c", `millrace() { "$MILLRACE" "$@"; }; ` + s.own(line)}, Dir: s.dir, Name: "sh",
			Env: []string{"MILLRACE_CONFIG=", "MILLRACE=" + harness.Binary(s.t)}})
		p.Wait(s.t, 2*patience)
		got := strings.ReplaceAll(strings.ReplaceAll(p.Stdout(), s.topic, "shop.orders"), s.name, "warehouse")
		if !looksLike(got, want) {
			s.t.Errorf("$ %s\nprints\n%s\nthe README shows\n%s\non standard error:\n%s", line, got, want, p.Output())
		}
		typed++
	}
	return typed
}

// own gives the README's sink its name here.
func (s *shop) own(line string) string { return strings.ReplaceAll(line, "warehouse", s.name) }

var (
	anyTime   = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	anySpan   = regexp.MustCompile(`\b\d[\d.]*(ns|µs|ms|s|m|h)(\d[\d.]*(ms|s|m))*\b`)
	anySize   = regexp.MustCompile(`\b\d[\d.]* ([KMG]i)?B\b`)
	anyKey    = regexp.MustCompile(`\bo-\d+\b`)
	anyNumber = regexp.MustCompile(`\d[\d,.]*`)
	anySpace  = regexp.MustCompile(`[ \t]+`)
)

// looksLike compares line by line without numbers, times and the width of columns. A line that is … stands for any lines.
func looksLike(got, want string) bool {
	lines := func(text string) []string {
		for _, x := range []struct {
			pattern *regexp.Regexp
			instead string
		}{{anyTime, "TIME"}, {anySpan, "SPAN"}, {anySize, "SIZE"}, {anyKey, "o-N"}, {anyNumber, "N"}, {anySpace, " "}} {
			text = x.pattern.ReplaceAllString(text, x.instead)
		}
		return strings.Split(strings.TrimSpace(text), "\n")
	}
	var parts []string
	for _, line := range lines(want) {
		if strings.TrimSpace(line) == "…" {
			parts = append(parts, `(?:.*\n)*?`)
			continue
		}
		parts = append(parts, regexp.QuoteMeta(strings.TrimSpace(line))+`\n`)
	}
	var flat strings.Builder
	for _, line := range lines(got) {
		flat.WriteString(strings.TrimSpace(line) + "\n")
	}
	return regexp.MustCompile(`^` + strings.Join(parts, "") + `$`).MatchString(flat.String())
}

// The comparison with the README can fail.
func TestLooksLike(t *testing.T) {
	want := "WHAT   N\norder  1,200   2026-03-01 10:00:00\n…\n(3 rows, 2.5ms)\n"
	if !looksLike("WHAT N\norder    7  2027-01-01 00:00:00\nanything\nelse\n(3 rows, 1m2s)\n", want) {
		t.Error("what is alike is taken for different")
	}
	for _, other := range []string{"WHAT N\norders 7 2027-01-01 00:00:00\n(3 rows, 1ms)\n", "WHAT N\n(3 rows, 1ms)\n", "WHAT N\norder 7 2027-01-01 00:00:00\n(3 rows, 1ms)\nmore\n"} {
		if looksLike(other, want) {
			t.Errorf("taken for the same: %s", other)
		}
	}
}
