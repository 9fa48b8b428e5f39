package shop

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	domain "github.com/millrace/millrace/schemas/shop"
)

func TestTheProjectionsFitTheSchemas(t *testing.T) {
	catalogue, err := schemas.LoadFS(domain.FS)
	if err != nil {
		t.Fatal(err)
	}
	projections, err := projection.LoadFS(domain.FS, catalogue, "projections/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var entities []string
	for _, p := range projections {
		entities = append(entities, p.Entity())
		for _, c := range p.Columns() {
			t.Log(p.Entity(), c.Name, c.Type)
		}
	}
	if got := strings.Join(entities, " "); got != "customer order product" {
		t.Errorf("entities are %s", got)
	}
}
