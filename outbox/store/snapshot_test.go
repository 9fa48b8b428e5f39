package store

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

func TestParseSnapshot(t *testing.T) {
	for _, good := range []string{"1:1:", "755:755:", "10:20:10,14,15", "7:9:8", "1:18446744073709551615:5"} {
		s, err := ParseSnapshot(good)
		if err != nil {
			t.Errorf("%s: %v", good, err)
		}
		if s.String() != good {
			t.Errorf("%s came back as %s", good, s)
		}
	}
	for _, bad := range []string{
		"", ":", "::", "1:1", "0:1:", "1:0:", "2:1:", "1:5:5", "2:5:1", "1:5:3,2", "1:5:2,2", "1:5:2,", "1:5:,2", "1:5: 2", "1:5:2:3",
		"-1:5:", "+1:5:", "01:5:", "1:18446744073709551616:", "1:99999999999999999999999:", "x:y:z", "1:5:2,x",
	} {
		if s, err := ParseSnapshot(bad); err == nil {
			t.Errorf("%q was read as %s", bad, s)
		}
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add("10:20:10,14,15")
	f.Add("1:1:")
	f.Add("2:1:3")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSnapshot(text)
		if err != nil {
			return
		}
		if s.String() != text {
			t.Errorf("%q came back as %q", text, s)
		}
		for _, xid := range s.Xip {
			if s.Sees(xid) || xid < s.Xmin || xid >= s.Xmax {
				t.Errorf("%s: transaction %d is running", text, xid)
			}
		}
		if s.Sees(s.Xmax) || s.Xmin > 0 && !s.Sees(s.Xmin-1) {
			t.Errorf("%s: wrong at its ends", text)
		}
	})
}

// Postgres is the second opinion.
func TestSeesAsPostgresDoes(t *testing.T) {
	conn := harness.Postgres(t).Conn(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		s := Snapshot{Xmin: 1 + rng.Uint64N(20)}
		s.Xmax = s.Xmin + rng.Uint64N(60)
		for xid := s.Xmin; xid < s.Xmax; xid++ {
			if rng.IntN(3) == 0 {
				s.Xip = append(s.Xip, xid)
			}
		}
		var back string
		var seen []bool
		err := conn.QueryRow(t.Context(), `select $1::text::pg_snapshot::text, array_agg(
			pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot) order by x) from generate_series(1, 90) x`, s.String()).Scan(&back, &seen)
		if err != nil {
			t.Fatal(err)
		}
		if parsed, err := ParseSnapshot(back); err != nil || !parsed.Equal(s) {
			t.Errorf("%s came back as %s: %v", s, back, err)
		}
		for i, want := range seen {
			if got := s.Sees(uint64(i + 1)); got != want {
				t.Errorf("%s sees %d: %t, Postgres says %t", s, i+1, got, want)
			}
		}
	}
}

func TestZeroSnapshotHasSeenNothing(t *testing.T) {
	var zero Snapshot
	if !zero.IsZero() || zero.Sees(1) || zero.String() != "" {
		t.Errorf("the zero snapshot is %q, sees 1: %t", zero, zero.Sees(1))
	}
	if s, err := ParseSnapshot(strconv.Itoa(1) + ":1:"); err != nil || s.IsZero() {
		t.Errorf("1:1: is not the zero snapshot: %v", err)
	}
}
