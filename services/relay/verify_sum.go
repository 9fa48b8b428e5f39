package relay

// sumBuckets is how many sums there are. An event is in one of them by the hash of its id.
const sumBuckets = 1 << 16

// sums are what records and rows add up to: records are added, rows subtracted. They take 3 MiB, however many events there are.
type sums struct {
	buckets []bucket
	buf     []byte
}

type bucket struct {
	events   int64
	a, b     uint64
	kinds    uint64
	kindless bool // a record of it does not tell its type
	suspect  bool // to be looked at, whatever it adds up to
}

func newSums() *sums { return &sums{buckets: make([]bucket, sumBuckets)} }

func (s *sums) of(l *look) *bucket { return &s.buckets[hashOf(l.id)%sumBuckets] }

// row subtracts a row.
func (s *sums) row(l *look) {
	at := s.of(l)
	var a, b, kind uint64
	a, b, kind, s.buf = l.sum(s.buf)
	at.events, at.a, at.b, at.kinds = at.events-1, at.a-a, at.b-b, at.kinds-kind
}

// record adds a record.
func (s *sums) record(l *look, suspect bool) {
	at := s.of(l)
	var a, b, kind uint64
	a, b, kind, s.buf = l.sum(s.buf)
	at.events, at.a, at.b = at.events+1, at.a+a, at.b+b
	if at.suspect = at.suspect || suspect; l.kinded {
		at.kinds += kind
	} else {
		at.kindless = true
	}
}

// dirty lists the buckets where something is left.
func (s *sums) dirty() (all []int) {
	for i := range s.buckets {
		b := &s.buckets[i]
		if b.events != 0 || b.a != 0 || b.b != 0 || b.suspect || b.kinds != 0 && !b.kindless {
			all = append(all, i)
		}
	}
	return all
}
