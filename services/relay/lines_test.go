package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
)

func idOf(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

// longLine is a line of so many events, as a start reads it back.
func longLine(events int) (*lines, *queue) {
	all := newLines()
	var q *queue
	for n := range events {
		q = all.add(line{topic: "t", key: "k"}, idOf(n), ReasonBehind)
	}
	return all, q
}

// Whatever leaves a line, in whatever order, the rest stays in order and is counted; what comes back takes its place again.
func TestALineWhoseEventsLeaveInAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		all, q := longLine(1 + rnd.IntN(40))
		want := map[int64]uuid.UUID{}
		for _, h := range q.events {
			want[h.position] = h.id
		}
		for step := range 120 {
			position := 1 + rnd.Int64N(q.last)
			id, there := want[position]
			switch rnd.IntN(8) {
			case 0:
				all.add(q.line, idOf(1000+step), ReasonBehind)
				want[q.last] = idOf(1000 + step)
			case 1: // read again from the parked topic
				if there {
					q.put(held{id: id, position: position, offset: int64(step)})
				}
			default:
				if all.remove(q, position) != there {
					t.Fatalf("seed %d: removed at %d: %t, want %t", seed, position, !there, there)
				}
				delete(want, position)
			}
			checkLine(t, seed, all, q, want)
			if len(want) == 0 {
				break
			}
		}
	}
}

func checkLine(t *testing.T, seed uint64, all *lines, q *queue, want map[int64]uuid.UUID) {
	t.Helper()
	var last int64
	n := 0
	for i, h := range q.events {
		if h.gone {
			if i == 0 {
				t.Fatalf("seed %d: the head is gone", seed)
			}
			continue
		}
		if n++; h.position <= last || want[h.position] != h.id {
			t.Fatalf("seed %d: event %v at %d after %d, want %v", seed, h.id, h.position, last, want[h.position])
		}
		last = h.position
	}
	_, known := all.all[q.line]
	if n != len(want) || q.size() != n || all.events != int64(n) || known != (n > 0) || (len(q.events) == 0) != (n == 0) {
		t.Fatalf("seed %d: %d events, size %d, %d in all, known %t; want %d", seed, n, q.size(), all.events, known, len(want))
	}
}

// What is discarded but for the first, backwards or in the order of random ids, takes time as the number of events does.
func BenchmarkDiscardALineOf100000(b *testing.B) {
	const events = 100_000
	for name, order := range map[string]func([]int64){
		"but its head": func([]int64) {},
		"backwards":    slices.Reverse[[]int64],
		"at random": func(all []int64) {
			rnd := rand.New(rand.NewPCG(1, 2))
			rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				all, q := longLine(events)
				positions := make([]int64, 0, events)
				for _, h := range q.events[1:] {
					positions = append(positions, h.position)
				}
				order(positions)
				b.StartTimer()
				for _, position := range positions {
					all.remove(q, position)
				}
				if q.size() != 1 || all.events != 1 {
					b.Fatalf("%d events are left", q.size())
				}
			}
		})
	}
}
