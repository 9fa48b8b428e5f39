package cache

import (
	"strings"
	"testing"
)

func TestEveryNameIsInTheSlotOfItsPrefix(t *testing.T) {
	n, err := Names{Prefix: "shop"}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{n.Value("a{b}c"), n.Lease("a{b}c"), n.Floor("a{b}c"), n.State("order", "{"), n.Partition("t", 1), n.Quarantine("t", 1), n.Partitions(), n.Declarations(), n.All()}
	seen := map[string]bool{}
	for _, name := range names {
		if !strings.HasPrefix(name, "{shop}:1:") {
			t.Errorf("%s is hashed by another tag", name)
		}
		if seen[name] {
			t.Errorf("%s means two things", name)
		}
		seen[name] = true
	}
	if n.Serving() != "{shop}:serving" || n.Of(7).Serving() != n.Serving() || n.Of(7).Value("a") != "{shop}:7:value:a" {
		t.Errorf("the pointer is %s, a value of generation 7 %s", n.Serving(), n.Of(7).Value("a"))
	}
	next, err := Names{Prefix: "shop", Generation: 2}.WithDefaults()
	if err != nil || next.Value("a") == n.Value("a") {
		t.Errorf("two generations share %s, %v", n.Value("a"), err)
	}
}

func TestNamesRefuseWhatBreaksTheSlot(t *testing.T) {
	for _, n := range []Names{{Prefix: "a{b"}, {Prefix: "a}b"}, {Prefix: "a b"}, {Prefix: strings.Repeat("x", 201)}, {Generation: -1}} {
		if _, err := n.WithDefaults(); err == nil {
			t.Errorf("%+v is accepted", n)
		}
	}
}
