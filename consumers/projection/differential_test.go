package projection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

// randomField is a type of a field and its values.
type randomField struct {
	schema string
	value  func(t *rapid.T) any
	// columns are types that can take it, at least some of its values.
	columns []string
}

func of[T any](g *rapid.Generator[T]) func(*rapid.T) any {
	return func(t *rapid.T) any { return g.Draw(t, "value") }
}

func instants(from, to int64, unit time.Duration) func(*rapid.T) any {
	return func(t *rapid.T) any {
		n := rapid.Int64Range(from, to).Draw(t, "instant")
		return time.Unix(0, 0).UTC().Add(time.Duration(n) * unit)
	}
}

var randomFields = []randomField{
	{`"string"`, of(rapid.String()), []string{"text", "json"}},
	{`"string"`, of(rapid.SampledFrom([]string{"2026-05-01", "2026-05-01T10:00:00Z", "12.50", "x"})), []string{"text", "date", "timestamp", "decimal(12,2)"}},
	{`{"type":"enum","name":"E%d","symbols":["A","B"]}`, of(rapid.SampledFrom([]string{"A", "B"})), []string{"text"}},
	{`{"type":"string","logicalType":"uuid"}`, func(*rapid.T) any { return "6ba7b810-9dad-11d1-80b4-00c04fd430c8" }, []string{"text"}},
	{`"int"`, of(rapid.Int32()), []string{"int", "decimal(12,2)", "float"}},
	{`"long"`, of(rapid.Int64()), []string{"int", "decimal(30,4)", "float"}},
	{`"float"`, of(rapid.Float32()), []string{"float"}},
	{`"double"`, of(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, 1, -3, 1e18}))), []string{"float", "json"}},
	{`"boolean"`, of(rapid.Bool()), []string{"bool"}},
	{`"bytes"`, of(rapid.SliceOf(rapid.Byte())), []string{"bytes", "json"}},
	{`{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}`, func(t *rapid.T) any {
		return big.NewRat(rapid.Int64Range(-1e12+1, 1e12-1).Draw(t, "cents"), 100)
	}, []string{"decimal(12,2)", "decimal(30,4)", "decimal(4,0)", "int"}},
	{`{"type":"bytes","logicalType":"decimal","precision":25,"scale":0}`, func(t *rapid.T) any {
		return new(big.Rat).SetInt(new(big.Int).Mul(big.NewInt(rapid.Int64().Draw(t, "n")), big.NewInt(1000)))
	}, []string{"decimal(30,4)", "decimal(12,2)"}},
	{`{"type":"int","logicalType":"date"}`, func(t *rapid.T) any {
		return time.Unix(int64(rapid.Int32Range(-1e6, 4e6).Draw(t, "day"))*86400, 0).UTC()
	}, []string{"date", "timestamp"}},
	{`{"type":"int","logicalType":"time-millis"}`, func(t *rapid.T) any {
		return time.Duration(rapid.Int64Range(0, 86399999).Draw(t, "clock")) * time.Millisecond
	}, []string{"duration"}},
	{`{"type":"long","logicalType":"timestamp-millis"}`, instants(-1e12, 1e12, time.Millisecond), []string{"timestamp", "date"}},
	{`{"type":"long","logicalType":"timestamp-millis"}`, func(t *rapid.T) any { return time.UnixMilli(rapid.Int64Range(-1e14, 1e15).Draw(t, "far")).UTC() }, []string{"timestamp"}},
	{`{"type":"long","logicalType":"timestamp-nanos"}`, instants(0, 3000, time.Nanosecond), []string{"timestamp"}},
	{`{"type":"array","items":"string"}`, of(rapid.SliceOfN(rapid.String(), 0, 3)), []string{"list(text)", "json"}},
	{`{"type":"array","items":"long"}`, of(rapid.SliceOfN(rapid.Int64(), 0, 3)), []string{"list(int)", "list(decimal(4,0))"}},
	{`{"type":"map","values":"double"}`, of(rapid.MapOfN(rapid.String(), rapid.Float64(), 0, 3)), []string{"json"}},
	{`{"type":"record","name":"R%d","fields":[{"name":"city","type":"string"},{"name":"zip","type":["null","string"]}]}`, func(t *rapid.T) any {
		zip := any(nil)
		if rapid.Bool().Draw(t, "zip") {
			zip = "89073"
		}
		return map[string]any{"city": rapid.String().Draw(t, "city"), "zip": zip}
	}, []string{"json"}},
}

var randomColumns = []string{"text", "int", "float", "bool", "bytes", "date", "timestamp", "duration", "decimal(12,2)", "decimal(30,4)", "decimal(4,0)", "json", "list(text)", "list(int)"}

// randomEvents is an event type with random fields, and values for them.
type randomEvents struct {
	fields []randomField
	null   []bool
}

func drawEvents(t *rapid.T) randomEvents {
	var r randomEvents
	for range rapid.IntRange(1, 6).Draw(t, "fields") {
		r.fields = append(r.fields, rapid.SampledFrom(randomFields).Draw(t, "type"))
		r.null = append(r.null, rapid.Bool().Draw(t, "nullable"))
	}
	return r
}

// text is the schema of the fields, the first behind the last of turn, and one that others need not have.
func (r randomEvents) text(turn int, extra string) string {
	var fields []string
	for k := range r.fields {
		i := (k + turn) % len(r.fields)
		typ := strings.ReplaceAll(r.fields[i].schema, "%d", fmt.Sprint(i))
		if r.null[i] {
			typ = `["null",` + typ + `]`
		}
		fields = append(fields, fmt.Sprintf(`{"name":"f%d","type":%s}`, i, typ))
	}
	if extra != "" {
		fields = append(fields, extra)
	}
	return `{"type":"record","name":"Made","namespace":"random","millrace.topic":"t","fields":[` + strings.Join(fields, ",") + `]}`
}

func (r randomEvents) draw(t *rapid.T) map[string]any {
	m := map[string]any{}
	for i, f := range r.fields {
		name := fmt.Sprintf("f%d", i)
		if m[name] = nil; !r.null[i] || rapid.Bool().Draw(t, "value") {
			m[name] = f.value(t)
		}
	}
	return m
}

// expression draws what may stand behind a column, of field f.
func (r randomEvents) expression(t *rapid.T, field, columns int) string {
	name := fmt.Sprintf("f%d", field)
	f := "event." + name
	state := fmt.Sprintf("state.c%d", rapid.IntRange(0, columns).Draw(t, "column"))
	forms := [][]string{
		{f}, {f}, {f}, {f, f + ".city", f + ".zip", "event.added"},
		{"'x:' + key", "type + '/' + " + f, f + " + " + f, "key + " + state, "'a' + " + f + ".zip"},
		{"dyn(event)." + name, "event", "event['" + name + "']", "[event].map(e, e." + name + ")[0]", "dyn(event).added"},
		{"event.?" + name, "has(" + f + ") ? " + f + " : null", f + " == null ? null : " + f},
		{"key", "version", "time", "type", "'x'", "1", "1.5", "true", "null", "decimal('1.5')", "string(version) + key", state, state},
	}
	return rapid.SampledFrom(rapid.SampledFrom(forms).Draw(t, "form")).Draw(t, "expression")
}

// drawProjection makes a declaration of columns that it accepts.
func (r randomEvents) drawProjection(t *rapid.T, catalogue *schemas.Catalogue) *Projection {
	var columns, set strings.Builder
	var last *Projection
	n := 0
	for range rapid.IntRange(3, 10).Draw(t, "columns") {
		field := rapid.IntRange(0, len(r.fields)-1).Draw(t, "field")
		types := r.fields[field].columns
		if rapid.IntRange(0, 3).Draw(t, "any column") == 0 {
			types = randomColumns
		}
		column := fmt.Sprintf("c%d: %q\n", n, rapid.SampledFrom(types).Draw(t, "column type"))
		setter := fmt.Sprintf("c%d: %q\n", n, r.expression(t, field, n))
		text := "entity: e\ntopic: t\ncolumns:\n" + indent(columns.String()+column, "  ") + "on:\n  random.Made:\n    set:\n" + indent(set.String()+setter, "      ")
		if p, err := Parse("random.yaml", []byte(text), catalogue); err == nil {
			columns.WriteString(column)
			set.WriteString(setter)
			last, n = p, n+1
		}
	}
	return last
}

func indent(lines, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n"+by) + "\n"
}

// programs compiles every expression of a rule for CEL.
func programs(t *rapid.T, p *Projection, codec *avro.Codec) (all []*program) {
	env, err := eventEnvironment("random.Made", codec.Fields(), p.columns)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.rules["random.Made"].set {
		ast, iss := env.Compile(s.expr.source.text)
		if iss.Err() != nil {
			t.Fatal(iss.Err())
		}
		prg, err := env.Program(ast, cel.CostLimit(costLimit), cel.CustomDecoratorV2(sortLiterals))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &program{prg, env.CELTypeAdapter(), codec.Fields(), p.columns})
	}
	return all
}

// byCEL folds as if nothing but CEL and Coerce were there, over all fields of the event.
func byCEL(all []*program, p *Projection, prev State, ev *consumers.Event) (State, string) {
	before := prev.Values
	if !prev.Exists {
		before = make([]any, len(p.columns))
	}
	plain := ev.WithFields(ev.Fields())
	after := append([]any{}, before...)
	for i, s := range p.rules[ev.Type].set {
		in := &input{ev: &plain, state: before, key: ev.Key, version: ev.Seq, time: ev.Time, typ: ev.Type}
		v, err := all[i].eval(in)
		if err == nil {
			v, err = Coerce(p.columns[s.column].Type, v)
		}
		if err != nil {
			return prev, p.columns[s.column].Name
		}
		after[s.column] = v
	}
	return State{Exists: true, Values: after}, ""
}

type oneRegistry string

func (r oneRegistry) Schema(context.Context, int) (string, error) { return string(r), nil }

// TestFoldsAreWhatCELSays: whatever way a column takes - by the number of a field, a variable, a constant, CEL - and however the event came to
// be decoded, the state is what CEL and Coerce make of all its fields, and poison is poison at the same column.
func TestFoldsAreWhatCELSays(t *testing.T) {
	poison, states := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := drawEvents(t)
		read, err := schemas.Parse(r.text(0, `{"name":"added","type":["null","string"],"default":null}`))
		if err != nil {
			t.Fatal(err)
		}
		catalogue, err := schemas.NewCatalogue(read)
		if err != nil {
			t.Fatal(err)
		}
		codec, err := avro.New(read.Text)
		if err != nil {
			t.Fatal(err)
		}
		p := r.drawProjection(t, catalogue)
		if p == nil {
			return
		}
		var state State
		all := programs(t, p, codec)
		for seq := range 4 {
			ev := r.decoded(t, p, catalogue, int64(seq))
			if got, want := AppendEventJSON(nil, &ev), AppendJSON(nil, ev.Fields()); !bytes.Equal(got, want) {
				t.Fatalf("event as JSON: %s, want %s", got, want)
			}
			got, err := p.Fold(state, &ev)
			want, column := byCEL(all, p, state, &ev)
			var fe *FoldError
			if (err != nil) != (column != "") || errors.As(err, &fe) && fe.Column != column {
				t.Fatalf("%v: %v; CEL fails at column %q", ev.Fields(), err, column)
			}
			if err != nil {
				poison++
				continue
			}
			states++
			a, err := EncodeState(p.columns, got.Values)
			b, err2 := EncodeState(p.columns, want.Values)
			if err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Fatalf("%v\n got %v (%v)\nwant %v (%v)", ev.Fields(), got.Values, err, want.Values, err2)
			}
			state = got
		}
	})
	if poison == 0 || states == 0 {
		t.Errorf("%d events were poison and %d were not", poison, states)
	}
}

// decoded draws an event and the way in which it is decoded: with the reader's schema, an older or a newer one, with or without the
// catalogue, all fields or what the projection reads.
func (r randomEvents) decoded(t *rapid.T, p *Projection, catalogue *schemas.Catalogue, seq int64) consumers.Event {
	extra := rapid.SampledFrom([]string{"", `{"name":"added","type":["null","string"],"default":null}`, `{"name":"added","type":"string"}`}).Draw(t, "writer")
	text := r.text(rapid.IntRange(0, len(r.fields)-1).Draw(t, "turn"), extra)
	writer, err := avro.New(text)
	if err != nil {
		t.Fatal(err)
	}
	values := r.draw(t)
	if extra != "" {
		values["added"] = "more"
	}
	value, err := writer.AppendEncode(avro.AppendFrame(nil, 1), values)
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumers.DecoderConfig{Registry: oneRegistry(text)}
	if rapid.Bool().Draw(t, "catalogue") {
		cfg.Catalogue = catalogue
	}
	switch rapid.IntRange(0, 2).Draw(t, "selection") {
	case 0:
		cfg.Reads = p.Reads
	case 1:
		cfg.Reads = func(string) ([]string, bool) { return []string{"f0"}, false }
	}
	d, err := consumers.NewDecoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := d.Decode(context.Background(), &kgo.Record{Topic: "t", Key: []byte("k"), Value: value, Offset: seq, Timestamp: time.UnixMilli(1e12 + seq)})
	if err != nil || ev.Err != nil {
		t.Fatal(err, ev.Err)
	}
	return ev
}
