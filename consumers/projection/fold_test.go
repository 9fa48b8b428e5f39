package projection_test

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func rat(s string) *big.Rat {
	r, err := projection.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return r
}

func made(ev consumers.Event, fields map[string]any) *consumers.Event {
	ev = ev.WithFields(fields)
	return &ev
}

func opened(seq int64) *consumers.Event {
	return made(consumers.Event{Key: "a-1", Type: "bank.Opened", Seq: seq, Time: noon}, map[string]any{
		"account": "a-1", "owner": "ann", "note": nil, "kind": "savings", "on": time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC),
		"limit": rat("100.50"), "home": map[string]any{"city": "Ulm", "zip": nil}, "tags": []any{"x", "y"},
		"rates": map[string]any{"b": 0.5, "a": 0.25},
	})
}

func deposited(seq int64, amount string) *consumers.Event {
	return made(consumers.Event{Key: "a-1", Type: "bank.Deposited", Seq: seq, Time: noon}, map[string]any{
		"account": "a-1", "amount": rat(amount), "times": int64(2), "rate": 0.1, "memo": "hello",
		"parts": []any{map[string]any{"cents": int64(5), "note": nil}, map[string]any{"cents": int64(7), "note": "tip"}},
		"at":    noon.Add(90 * time.Second),
	})
}

func with(ev *consumers.Event, field string, v any) *consumers.Event {
	ev.Fields()[field] = v
	return ev
}

// row is a state by column, as text; columns that are null are left out.
func row(p *projection.Projection, s projection.State) map[string]string {
	out := map[string]string{}
	for i, c := range p.Columns() {
		if s.Exists && s.Values[i] != nil {
			out[c.Name] = fmt.Sprint(projection.DocumentValue(c.Type, s.Values[i]))
		}
	}
	return out
}

func TestEventsBecomeStates(t *testing.T) {
	p := account(t)
	afterOpened := map[string]string{
		"balance": "0.00", "owner": "ann", "kind": "savings", "opened_on": "2026-05-01", "limit": "100.50", "city": "Ulm",
		"home": "map[city:Ulm zip:<nil>]", "tags": "[x y]", "rates": "map[a:0.25 b:0.5]", "note": "none", "deposits": "0",
		"key_copy": "a-1", "seen": "2026-05-01T12:00:00Z", "last_version": "1", "last_type": "bank.Opened",
	}
	steps := []struct {
		name string
		ev   *consumers.Event
		want map[string]string // what changes; "" is null
	}{
		{"the first event creates the state", opened(1), afterOpened},
		{"columns not set keep their value", deposited(2, "7.25"), map[string]string{
			"balance": "14.50", "deposits": "1", "memos": "[hello]", "big": "false", "at": "2026-05-01T12:01:30Z", "waited": "00:01:30",
			"last_version": "2", "last_type": "bank.Deposited"}},
		{"expressions see the state before the event", with(deposited(3, "2000.00"), "memo", nil), map[string]string{
			"balance": "4014.50", "deposits": "2", "big": "true", "last_version": "3"}},
		{"an event that is not named changes nothing", &consumers.Event{Type: "bank.Renamed", Seq: 4}, map[string]string{}},
	}
	var s projection.State
	want := map[string]string{}
	for _, step := range steps {
		before := slices.Clone(s.Values)
		next, err := p.Fold(s, step.ev)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if !reflect.DeepEqual(before, s.Values) && before != nil {
			t.Errorf("%s: the state before was changed", step.name)
		}
		for name, v := range step.want {
			want[name] = v
		}
		if got := row(p, next); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", step.name, got, want)
		}
		s = next
	}
	gone, err := p.Fold(s, made(consumers.Event{Key: "a-1", Type: "bank.Closed", Seq: 5}, map[string]any{"account": "a-1"}))
	if err != nil || gone.Exists || gone.Values != nil {
		t.Errorf("after a deletion: %+v, %v", gone, err)
	}
	again, err := p.Fold(gone, opened(6))
	if err != nil {
		t.Fatal(err)
	}
	afterOpened["last_version"] = "6"
	if got := row(p, again); !reflect.DeepEqual(got, afterOpened) {
		t.Errorf("a set after a deletion begins with nulls:\n got %v\nwant %v", got, afterOpened)
	}
}

func TestNullsTravelThroughFields(t *testing.T) {
	p := account(t)
	s, err := p.Fold(projection.State{}, with(opened(1), "home", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := row(p, s)["city"]; got != "" {
		t.Errorf("a field of null is %q", got)
	}
	keys, err := p.CacheKeys("a-1", s)
	if want := []string{"account:a-1", "owner:ann"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("cache keys %v, %v; want %v: none is made of a null", keys, err, want)
	}
}

func TestCacheKeysAreSortedAndOfStatesThatExist(t *testing.T) {
	p := account(t)
	s, err := p.Fold(projection.State{}, opened(1))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := p.CacheKeys("a-1", s)
	if want := []string{"account:a-1", "city:Ulm", "owner:ann"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("cache keys %v, %v; want %v", keys, err, want)
	}
	if keys, err := p.CacheKeys("a-1", projection.State{}); keys != nil || err != nil {
		t.Errorf("cache keys of nothing are %v, %v", keys, err)
	}
}

// Promise 7: a bad event never stops the stream. The projection's part is an error that names it and a state that did not change.
func TestBadEventsAreErrorsThatNameTheColumn(t *testing.T) {
	p := account(t)
	state, err := p.Fold(projection.State{}, opened(1))
	if err != nil {
		t.Fatal(err)
	}
	missing := opened(2)
	delete(missing.Fields(), "owner")
	undecoded := made(*opened(2), nil)
	undecoded.Err = errors.New("not Avro")
	cases := []struct {
		name, want string
		ev         *consumers.Event
	}{
		{"too many digits", "account: bank.Deposited: balance: 0.002 has more than 2 digits", deposited(2, "0.001")},
		{"too large", "account: bank.Deposited: balance: 19999999999999.5 does not fit decimal(14,2)", deposited(2, "9999999999999.75")},
		{"a null in arithmetic", "account: bank.Deposited: balance: no such overload", with(deposited(2, "1"), "amount", nil)},
		{"a value of another type", "account: bank.Deposited: balance: ", with(deposited(2, "1"), "times", "text")},
		{"a field that is not there", "account: bank.Opened: owner: the decoded event has no field owner", missing},
		{"not decoded", "account: bank.Opened: not Avro", undecoded},
		{"not UTF-8", "account: bank.Opened: owner: the text is not UTF-8", with(opened(2), "owner", "a\xff")},
		{"too fine a time", "account: bank.Deposited: at: ", with(deposited(2, "1"), "at", noon.Add(1))},
		{"a day with hours", "account: bank.Opened: opened_on: ", with(opened(2), "on", noon)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := p.Fold(state, c.ev)
			var ferr *projection.FoldError
			if !errors.As(err, &ferr) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a *FoldError with %q", err, c.want)
			}
			if !reflect.DeepEqual(got, state) {
				t.Error("the state changed")
			}
		})
	}
}

// Folds are deterministic: Go walks a map in another order each time, expressions do not.
func TestExpressionsWalkMapsInOrder(t *testing.T) {
	p, err := parse(t, `
on:
  bank.Opened: {set: {names: "event.rates.map(k, k).join(',')", made: "{'z': 1, 'y': 2, 'x': 3, 'w': 4}.map(k, k).join(',')"}}
`)
	if err != nil {
		t.Fatal(err)
	}
	rates := map[string]any{}
	var names []string
	for i := range 20 {
		name := fmt.Sprintf("n%02d", i)
		rates[name], names = float64(i), append(names, name)
	}
	for range 50 {
		s, err := p.Fold(projection.State{}, with(opened(1), "rates", rates))
		if err != nil {
			t.Fatal(err)
		}
		if s.Values[0] != strings.Join(names, ",") || s.Values[1] != "w,x,y,z" {
			t.Fatalf("the maps were walked as %v", s.Values)
		}
	}
}

func TestCostlyEvaluationsEnd(t *testing.T) {
	p, err := parse(t, `
on:
  bank.Opened: {set: {pairs: "event.tags.map(a, event.tags.map(b, event.tags.filter(c, a + b == c).size()).size()).size()"}}
`)
	if err != nil {
		t.Fatal(err)
	}
	tags := make([]any, 2000)
	for i := range tags {
		tags[i] = strings.Repeat("x", 100)
	}
	_, err = p.Fold(projection.State{}, with(opened(1), "tags", tags))
	if err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("eight billion steps gave %v", err)
	}
}

func TestDecimalsInExpressionsAreExact(t *testing.T) {
	cases := map[string]string{
		"event.amount + decimal('0.01')":                             "0.11",
		"event.amount - decimal(1)":                                  "-0.90",
		"event.amount * event.amount":                                "0.01",
		"-event.amount":                                              "-0.10",
		"decimal('0.1') + decimal('0.2') - decimal('0.30')":          "0.00",
		"event.amount == decimal('0.10') ? decimal(1) : null":        "1.00",
		"event.amount <= decimal('0.1') ? event.amount : decimal(0)": "0.10",
		"decimal(string(event.amount))":                              "0.10",
		"event.times":                                                "2.00",
		"'12.5'":                                                     "12.50",
		"optional.of(event.amount)":                                  "0.10",
	}
	for expr, want := range cases {
		p, err := parse(t, "columns: {v: \"decimal(30,2)\"}\non:\n  bank.Deposited: {set: {v: \""+expr+"\"}}\n")
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		s, err := p.Fold(projection.State{}, deposited(1, "0.10"))
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := row(p, s)["v"]; got != want {
			t.Errorf("%s is %s, want %s", expr, got, want)
		}
	}
}

func TestNullIsAbsentForOptionalValues(t *testing.T) {
	cases := map[string]string{
		"event.?memo.orValue('none')":                                 "none",
		"has(event.memo) ? event.memo : 'none'":                       "none",
		"event.memo == null ? 'none' : event.memo":                    "none",
		"state.?v.orValue('new')":                                     "new",
		"has(state.v) ? state.v : 'new'":                              "new",
		"event.parts.map(p, p.?note.orValue('-')).join(',')":          "-,tip",
		"event.parts.filter(p, has(p.note)).map(p, p.note).join(',')": "tip",
		"string(event.parts.map(p, p.cents)[1])":                      "7",
		"event.parts[?0].?note.orValue('first has none')":             "first has none",
		"event.parts[?9].?note.orValue('there is none')":              "there is none",
		"event.parts[0] == event.parts[0] ? 'same' : 'other'":         "same",
		"event.parts[0] == event.parts[1] ? 'same' : 'other'":         "other",
		"type + ' ' + key + ' ' + string(version)":                    "bank.Deposited a-1 1",
		"string(time)":               "2026-05-01T12:00:00Z",
		"event.memo":                 "",
		"event.?memo":                "",
		"event.account.upperAscii()": "A-1",
		"{'a': event.account}.a":     "a-1",
		"event.account in ['a-1', 'a-2'] && event.times > 1 ? 'yes' : 'no'": "yes",
	}
	for expr, want := range cases {
		p, err := parse(t, "columns: {v: text}\non:\n  bank.Deposited: {set: {v: \""+expr+"\"}}\n")
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		s, err := p.Fold(projection.State{}, with(deposited(1, "0.10"), "memo", nil))
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := row(p, s)["v"]; got != want {
			t.Errorf("%s is %q, want %q", expr, got, want)
		}
	}
}

func TestGrowingDecimalsEnd(t *testing.T) {
	p, err := parse(t, `
columns: {v: "decimal(30,2)"}
on:
  bank.Opened: {set: {v: "event.tags.map(t, decimal('99999999999999999999999999999999999999'))[0]"}}
  bank.Deposited: {set: {v: "`+strings.Repeat("(", 12)+"event.amount"+strings.Repeat(" * event.amount)", 12)+`"}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Fold(projection.State{}, deposited(1, "1"+strings.Repeat("0", 100))); err == nil {
		t.Error("a number of 1,300 digits was stored in decimal(30,2)")
	}
}

func TestFoldIsSafeForLanes(t *testing.T) {
	p := account(t)
	want, err := p.Fold(projection.State{}, opened(1))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 4)
	for range cap(done) {
		go func() { done <- foldOften(p, want) }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func foldOften(p *projection.Projection, want projection.State) error {
	for range 200 {
		got, err := p.Fold(projection.State{}, opened(1))
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("got %v", got)
		}
	}
	return nil
}

func BenchmarkFold(b *testing.B) {
	p := account(b)
	s, err := p.Fold(projection.State{}, opened(1))
	if err != nil {
		b.Fatal(err)
	}
	for name, ev := range map[string]*consumers.Event{"fields": opened(2), "expressions": deposited(2, "1")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Fold(s, ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
