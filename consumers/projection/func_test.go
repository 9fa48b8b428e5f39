package projection_test

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

func orders() projection.FuncConfig {
	return projection.FuncConfig{
		Entity: "order", Topic: "shop.orders", Version: "1",
		Columns: []projection.Column{
			{Name: "status", Type: projection.Type{Kind: projection.Text}},
			{Name: "paid", Type: projection.Type{Kind: projection.Decimal, Precision: 12, Scale: 2}},
		},
		On: map[string]projection.FoldFunc{
			"shop.OrderPaid": func(row *projection.Row, ev *consumers.Event) error {
				sum := new(big.Rat)
				if before, ok := row.Get("paid").(*big.Rat); ok {
					sum.Set(before)
				}
				amount, ok := ev.Fields()["amount"].(*big.Rat)
				if !ok {
					return errors.New("no amount")
				}
				row.Set("status", "paid")
				row.Set("paid", sum.Add(sum, amount))
				return nil
			},
			"shop.Wrong": func(row *projection.Row, _ *consumers.Event) error {
				row.Set("status", "x")
				row.Set("paid", "much")
				return nil
			},
			"shop.Unknown":      func(row *projection.Row, _ *consumers.Event) error { row.Set("sum", row.Get("total")); return nil },
			"shop.OrderDeleted": projection.Delete,
		},
		CacheKeys: func(key string, row *projection.Row) []string {
			return []string{"order:" + key, fmt.Sprint("status:", row.Get("status")), "order:" + key}
		},
	}
}

func event(kind string, amount *big.Rat) *consumers.Event {
	ev := consumers.Event{Type: kind, Key: "o-1"}.WithFields(map[string]any{"amount": amount})
	return &ev
}

func TestAFuncFoldsAsADeclarationDoes(t *testing.T) {
	t.Parallel()
	f, err := projection.NewFunc(orders())
	if err != nil {
		t.Fatal(err)
	}
	fold := func(prev projection.State, ev *consumers.Event) projection.State {
		t.Helper()
		next, err := f.Fold(prev, ev)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	first := fold(projection.State{}, event("shop.OrderPaid", big.NewRat(5, 4)))
	second := fold(first, event("shop.OrderPaid", big.NewRat(1, 4)))
	if !reflect.DeepEqual(first.Values, []any{"paid", big.NewRat(5, 4)}) || !reflect.DeepEqual(second.Values, []any{"paid", big.NewRat(3, 2)}) {
		t.Errorf("%v, then %v", first, second)
	}
	if same := fold(second, event("shop.Other", nil)); !reflect.DeepEqual(same, second) {
		t.Errorf("an event that is not named makes %v", same)
	}
	keys, err := f.CacheKeys("o-1", second)
	if err != nil || !reflect.DeepEqual(keys, []string{"order:o-1", "status:paid"}) {
		t.Errorf("%q, %v", keys, err)
	}
	gone := fold(second, event("shop.OrderDeleted", nil))
	if gone.Exists || gone.Values != nil {
		t.Errorf("%v", gone)
	}
	if again := fold(gone, event("shop.OrderPaid", big.NewRat(1, 1))); !reflect.DeepEqual(again.Values, []any{"paid", big.NewRat(1, 1)}) {
		t.Errorf("after a deletion: %v", again)
	}
}

// A value is stored exactly or the event is poison, and changes nothing.
func TestWhatAFuncCannotSetIsPoison(t *testing.T) {
	t.Parallel()
	f, err := projection.NewFunc(orders())
	if err != nil {
		t.Fatal(err)
	}
	prev := projection.State{Exists: true, Values: []any{"new", big.NewRat(1, 1)}}
	for want, ev := range map[string]*consumers.Event{
		"projection order: shop.Wrong: paid: ":      event("shop.Wrong", nil),
		"projection order: shop.Unknown: total: ":   event("shop.Unknown", nil),
		"projection order: shop.OrderPaid: no":      {Type: "shop.OrderPaid"},
		"projection order: shop.OrderPaid: paid: ":  event("shop.OrderPaid", big.NewRat(1, 3)),
		"projection order: shop.OrderPaid: paid:  ": event("shop.OrderPaid", new(big.Rat).SetInt64(1e15)),
	} {
		next, err := f.Fold(prev, ev)
		var poison *projection.FoldError
		if !errors.As(err, &poison) || !strings.HasPrefix(err.Error(), strings.TrimSpace(want)) || !reflect.DeepEqual(next, prev) {
			t.Errorf("%s: %v, %v", want, next, err)
		}
		if !reflect.DeepEqual(prev.Values, []any{"new", big.NewRat(1, 1)}) {
			t.Fatalf("the state before is changed: %v", prev.Values)
		}
	}
}

func TestNewFuncNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*projection.FuncConfig){
		"Entity":       func(c *projection.FuncConfig) { c.Entity = "" },
		"Topic":        func(c *projection.FuncConfig) { c.Topic = "" },
		"Columns":      func(c *projection.FuncConfig) { c.Columns = append(c.Columns, c.Columns[0]) },
		"no type":      func(c *projection.FuncConfig) { c.Columns = []projection.Column{{Name: "a"}} },
		"On":           func(c *projection.FuncConfig) { c.On = nil },
		"names tables": func(c *projection.FuncConfig) { c.Entity = "Order Lines" },
		"a letter": func(c *projection.FuncConfig) {
			c.Columns = append(c.Columns, projection.Column{Name: "a b", Type: c.Columns[0].Type})
		},
		"by case": func(c *projection.FuncConfig) {
			c.Columns = append(c.Columns, projection.Column{Name: strings.ToUpper(c.Columns[0].Name), Type: c.Columns[0].Type})
		},
		"CacheVersion": func(c *projection.FuncConfig) { c.CacheVersion = "status" },
		"nil":          func(c *projection.FuncConfig) { c.On["x"] = nil },
	} {
		cfg := orders()
		spoil(&cfg)
		if _, err := projection.NewFunc(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// The digest is another whenever the states may be.
func TestTheDigestOfAFunc(t *testing.T) {
	t.Parallel()
	digest := func(change func(*projection.FuncConfig)) string {
		cfg := orders()
		change(&cfg)
		f, err := projection.NewFunc(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return f.Digest()
	}
	same := digest(func(*projection.FuncConfig) {})
	if digest(func(c *projection.FuncConfig) { c.CacheKeys, c.Reads = nil, map[string][]string{} }) != same {
		t.Error("cache keys and what is read change the digest")
	}
	for what, change := range map[string]func(*projection.FuncConfig){
		"version": func(c *projection.FuncConfig) { c.Version = "2" },
		"topic":   func(c *projection.FuncConfig) { c.Topic = "t" },
		"type":    func(c *projection.FuncConfig) { c.Columns[1].Type.Scale = 3 },
		"events":  func(c *projection.FuncConfig) { delete(c.On, "shop.Wrong") },
	} {
		if digest(change) == same {
			t.Errorf("%s does not change the digest", what)
		}
	}
}

// The version of the application's row is told by declarations and functions alike, where there is one.
func TestTheVersionOfARow(t *testing.T) {
	t.Parallel()
	cfg := orders()
	cfg.Columns = append(cfg.Columns, projection.Column{Name: "row_version", Type: projection.Type{Kind: projection.Int}})
	plain, err := projection.NewFunc(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.CacheVersion = "row_version"
	f, err := projection.NewFunc(cfg)
	if err != nil {
		t.Fatal(err)
	}
	state := projection.State{Exists: true, Values: []any{"new", nil, int64(7)}}
	if v, ok := f.CacheVersion(state); !ok || v != 7 {
		t.Errorf("%d, %v", v, ok)
	}
	if _, ok := plain.CacheVersion(state); ok || plain.Digest() != f.Digest() {
		t.Error("a version that was not declared, or that changes states")
	}
	for _, none := range []projection.State{{}, {Exists: true, Values: []any{"new", nil, nil}}, {Exists: true, Values: []any{"new", nil, int64(0)}}} {
		if _, ok := f.CacheVersion(none); ok {
			t.Errorf("%v tells a version", none)
		}
	}
}

func TestAFuncReadsWhatItSays(t *testing.T) {
	t.Parallel()
	cfg := orders()
	cfg.Reads = map[string][]string{"shop.OrderPaid": {"amount"}}
	f, err := projection.NewFunc(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{"shop.OrderPaid": "[amount] false", "shop.Wrong": "[] true", "shop.Other": "[] false"} {
		names, all := f.Reads(kind)
		if got := fmt.Sprint(names, all); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}

func ExampleNewFunc() {
	f, err := projection.NewFunc(projection.FuncConfig{
		Entity: "visitor", Topic: "visits", Version: "1",
		Columns: []projection.Column{{Name: "visits", Type: projection.Type{Kind: projection.Int}}},
		On: map[string]projection.FoldFunc{
			"site.Visited": func(row *projection.Row, _ *consumers.Event) error {
				n, _ := row.Get("visits").(int64)
				row.Set("visits", n+1)
				return nil
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	state := projection.State{}
	for range 3 {
		state, err = f.Fold(state, &consumers.Event{Type: "site.Visited", Key: "ann"})
	}
	fmt.Println(state.Values, err)
	// Output: [3] <nil>
}
