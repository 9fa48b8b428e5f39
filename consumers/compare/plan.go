package compare

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// plan says what of an entity is compared. Old and new are the two declarations; they may be one.
type plan struct {
	entity     string
	partitions int32
	old, new   []projection.Column
	equal      []match // columns that must be equal
	changed    []match // columns that differ by declaration
	existence  bool    // what makes states begin and end differs
	versions   bool    // versions compare: it is one topic
}

// match is a column by its numbers in the two declarations; -1 where it is none.
type match struct {
	name     string
	how      string
	old, new int
}

// parted is a declaration that tells its parts apart. Of others nothing is known to be the same but in the same declaration.
type parted interface{ Parts() projection.Parts }

// newPlan compares two declarations of one entity.
func newPlan(before, after fold.Projection, partitions int32) *plan {
	p := &plan{entity: after.Entity(), partitions: max(partitions, 1), old: before.Columns(), new: after.Columns(), versions: before.Topic() == after.Topic()}
	redefined := changedRules(before, after)
	p.existence = redefined == nil || redefined[""] || !p.versions
	for i, c := range p.old {
		j := slices.IndexFunc(p.new, func(n projection.Column) bool { return n.Name == c.Name })
		m := match{name: c.Name, old: i, new: j}
		switch {
		case j < 0:
			m.how = "gone"
		case c.Type.String() != p.new[j].Type.String():
			m.how = "retyped"
		case redefined == nil || redefined[c.Name]:
			m.how = "redefined"
		case p.existence:
			m.how = "existence"
		default:
			p.equal = append(p.equal, m)
			continue
		}
		p.changed = append(p.changed, m)
	}
	for j, c := range p.new {
		if !slices.ContainsFunc(p.old, func(o projection.Column) bool { return o.Name == c.Name }) {
			p.changed = append(p.changed, match{name: c.Name, how: "added", old: -1, new: j})
		}
	}
	return p
}

// changedRules are the columns that are set by other rules, or by the same ones that read such a column; "" stands for what makes states begin and
// end. It is nil if nothing is known to be the same.
func changedRules(before, after fold.Projection) map[string]bool {
	if before.Digest() == after.Digest() {
		return map[string]bool{}
	}
	o, known := before.(parted)
	n, alsoKnown := after.(parted)
	if !known || !alsoKnown {
		return nil
	}
	was, is := o.Parts(), n.Parts()
	out := map[string]bool{}
	if was.Existence != is.Existence {
		out[""] = true
	}
	for name, rule := range is.Columns {
		out[name] = was.Columns[name] != rule
	}
	types := map[string]string{}
	for _, c := range before.Columns() {
		types[c.Name] = c.Type.String()
	}
	for _, c := range after.Columns() {
		out[c.Name] = out[c.Name] || types[c.Name] != c.Type.String()
	}
	for again := true; again; {
		again = false
		for name, reads := range is.Reads {
			if !out[name] && slices.ContainsFunc(reads, func(r string) bool { return out[r] }) {
				out[name], again = true, true
			}
		}
	}
	return out
}

// hasher is the partitioner of Java's clients and of the relay: murmur2.
var hasher = kgo.StickyKeyPartitioner(nil).ForTopic("")

// PartitionOf is the partition of n that a key's events are in. It is that of Kafka's own clients, and of the relay.
func PartitionOf(key string, n int32) int32 {
	if n <= 1 {
		return 0
	}
	return int32(hasher.Partition(&kgo.Record{Key: []byte(key)}, int(n)))
}
