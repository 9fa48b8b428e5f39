package gold

import (
	"fmt"
	"slices"
	"strings"
)

// Graph is a set of models whose inputs exist, in an order in which each comes after what it reads.
type Graph struct {
	// Models are in the order of building.
	Models []*Model
	byName map[string]*Model
}

// NewGraph puts models in order. entities are what silver has. A missing input, and models that read each other in a circle, are an *Error.
func NewGraph(models []*Model, entities []string) (*Graph, error) {
	g := &Graph{byName: map[string]*Model{}}
	for _, m := range models {
		if other := g.byName[m.Name]; other != nil {
			return nil, m.fail(0, "there is another model %s, in %s", m.Name, other.File)
		}
		g.byName[m.Name] = m
	}
	for _, m := range models {
		for _, in := range m.Inputs {
			if err := g.exists(in, entities); err != nil {
				return nil, m.fail(m.lineOf(in), "%v", err)
			}
		}
	}
	return g, g.sort(models)
}

func (g *Graph) exists(input string, entities []string) error {
	layer, name, _ := strings.Cut(input, ".")
	switch layer {
	case "silver":
		if !slices.Contains(entities, name) {
			return fmt.Errorf("there is no %s: the sink keeps %s", input, list(entities))
		}
	case "gold":
		if g.byName[name] == nil {
			var all []string
			for n := range g.byName {
				all = append(all, n)
			}
			slices.Sort(all)
			return fmt.Errorf("there is no %s: the models are %s", input, list(all))
		}
	}
	return nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

// lineOf is where an input is first named in the SQL.
func (m *Model) lineOf(input string) int {
	for _, p := range m.parts {
		if p.input == input {
			return p.line
		}
	}
	return 0
}

// sort visits each model after those that it reads, by name where that leaves a choice.
func (g *Graph) sort(models []*Model) error {
	const (
		entered = 1
		left    = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case left:
			return nil
		case entered:
			circle := append(path[slices.Index(path, name):], name)
			m := g.byName[path[len(path)-1]]
			return m.fail(m.lineOf("gold."+name), "models read each other in a circle: %s", strings.Join(circle, " -> "))
		}
		state[name], path = entered, append(path, name)
		for _, up := range g.byName[name].Upstream() {
			if err := visit(up); err != nil {
				return err
			}
		}
		state[name], path = left, path[:len(path)-1]
		g.Models = append(g.Models, g.byName[name])
		return nil
	}
	sorted := slices.Clone(models)
	slices.SortFunc(sorted, func(a, b *Model) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range sorted {
		if err := visit(m.Name); err != nil {
			return err
		}
	}
	return nil
}

// Model is the model of a name; nil if there is none.
func (g *Graph) Model(name string) *Model { return g.byName[name] }

// Downstream are the models that read a model, themselves or by others, in the order of building.
func (g *Graph) Downstream(name string) []string {
	reached := map[string]bool{name: true}
	var out []string
	for _, m := range g.Models {
		if slices.ContainsFunc(m.Upstream(), func(up string) bool { return reached[up] }) {
			reached[m.Name] = true
			out = append(out, m.Name)
		}
	}
	return out
}

// Ancestors are the models that a model reads, itself or by others, in the order of building.
func (g *Graph) Ancestors(name string) []string {
	wanted := map[string]bool{name: true}
	var out []string
	for _, m := range slices.Backward(g.Models) {
		if !wanted[m.Name] {
			continue
		}
		for _, up := range m.Upstream() {
			wanted[up] = true
		}
		if m.Name != name {
			out = append(out, m.Name)
		}
	}
	slices.Reverse(out)
	return out
}
