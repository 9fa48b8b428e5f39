package compare

import (
	"hash/maphash"
	"strconv"

	"github.com/millrace/millrace/consumers/fold"
)

// bucketsOfAll is about how many buckets the keys of an entity are spread over; each takes 32 bytes a side.
const (
	bucketsOfAll  = 1 << 16
	fewestBuckets = 64 // a partition
)

// spread says where keys belong. It is the same for all sides of a comparison.
type spread struct {
	seed       maphash.Seed
	partitions int32
	buckets    int // of a partition
}

func newSpread(partitions int32) spread {
	return spread{seed: maphash.MakeSeed(), partitions: partitions, buckets: max(fewestBuckets, bucketsOfAll/int(partitions))}
}

// of returns a key's partition, and its bucket among those of all partitions.
func (s spread) of(key string) (partition int32, bucket int) {
	partition = PartitionOf(key, s.partitions)
	return partition, int(partition)*s.buckets + int(maphash.String(s.seed, key)%uint64(s.buckets))
}

// bucket sums the states of some keys.
type bucket struct {
	sum     hash
	changes uint64
	states  int64 // deleted ones included
}

// tally sums the states of one side.
type tally struct {
	side
	spread
	buckets []bucket
	parts   []struct{ states, deleted int64 }
	scratch []uint64
}

func newTally(s *side, at spread) *tally {
	return &tally{side: *s, spread: at, buckets: make([]bucket, int(at.partitions)*at.buckets), parts: make([]struct{ states, deleted int64 }, at.partitions)}
}

func (t *tally) add(key string, st *fold.Stored) {
	partition, n := t.of(key)
	if st.Exists {
		t.parts[partition].states++
	} else {
		t.parts[partition].deleted++
	}
	b := &t.buckets[n]
	b.states++
	b.sum.add(t.digest(key, st))
	if len(t.changed) > 0 || t.existence {
		t.scratch = t.changes(st, t.scratch[:0])
		b.changes += mix(t.seed, key, t.scratch)
	}
}

// mix is one number for a key's changes.
func mix(seed maphash.Seed, key string, changes []uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(key)
	for _, c := range changes {
		_, _ = h.WriteString(strconv.FormatUint(c, 36) + "/")
	}
	return h.Sum64()
}

// sides are the results by partition. Partitions of which there is nothing are left out, unless wanted says otherwise.
func (t *tally) sides(other *tally) []Side {
	var out []Side
	for p := range t.parts {
		if t.parts[p] == (struct{ states, deleted int64 }{}) && other.parts[p] == t.parts[p] {
			continue
		}
		var sum hash
		for _, b := range t.buckets[p*t.spread.buckets : (p+1)*t.spread.buckets] {
			sum.add(b.sum)
		}
		out = append(out, Side{Partition: int32(p), States: t.parts[p].states, Deleted: t.parts[p].deleted, Sum: sum.String()})
	}
	return out
}

// differ returns the buckets whose states differ, with how many states there are in them on both sides.
func (t *tally) differ(other *tally) (numbers []int, states int64) {
	for n := range t.buckets {
		if t.buckets[n] != other.buckets[n] {
			numbers = append(numbers, n)
			states += t.buckets[n].states + other.buckets[n].states
		}
	}
	return numbers, states
}
