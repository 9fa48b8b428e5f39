package shop_test

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/shop"
)

func TestEveryEventNamesItsTopicAndKey(t *testing.T) {
	c, err := schemas.LoadFS(shop.FS)
	if err != nil {
		t.Fatal(err)
	}
	topics := map[string]int{}
	for _, s := range c.All() {
		if s.Name == "shop.OrderLine" {
			continue // part of an event
		}
		if s.Topic == "" || s.Key == "" {
			t.Errorf("%s: topic %q, key %q", s.Name, s.Topic, s.Key)
		}
		topics[s.Topic]++
	}
	for topic, want := range map[string]int{"shop.orders": 6, "shop.customers": 3, "shop.products": 3} {
		if topics[topic] != want {
			t.Errorf("%s has %d types of events, want %d", topic, topics[topic], want)
		}
	}
	files, err := shop.FS.ReadDir("projections")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	if !slices.Equal(names, []string{"customer.yaml", "order.yaml", "product.yaml"}) {
		t.Errorf("projections are %v", names)
	}
}
