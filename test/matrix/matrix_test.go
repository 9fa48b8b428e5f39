package matrix

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// cases are the rows of the matrix.
var cases = []struct {
	name string
	// server says that the case needs a store that is a server: several processes, or a wire to it.
	server bool
	run    func(*testing.T, string)
}{
	{"kill", false, killed},
	{"zombie", true, zombie},
	{"duplicates", false, duplicates},
	{"topic enlarged", false, enlarged},
	{"topic re-created", false, recreated},
	{"offsets expired", false, expired},
	{"schema evolves", false, evolved},
	{"poison", false, poison},
	{"hostile bytes", false, hostile},
	{"store away for long", true, awayForLong},
	{"DDL in mid-batch", true, ddl},
}

// Promise 4: redelivery, rebalance, crash at any point, a slow zombie: the sink's state is that of applying each event once, in key
// order. Every case runs on the first kind of sink, and one on each of the others, as the seed says; with MILLRACE_TEST_FULL=1 all run
// on all.
func TestMatrix(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	full := os.Getenv("MILLRACE_TEST_FULL") != ""
	for i, kind := range kinds {
		var may []int
		for c := range cases {
			if (onServer(kind) || !cases[c].server) && (cases[c].name != "DDL in mid-batch" || kind == "postgres") {
				may = append(may, c)
			}
		}
		if i > 0 && !full {
			may = []int{may[rng.IntN(len(may))]}
		}
		for _, c := range may {
			t.Run(cases[c].name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				cases[c].run(t, kind)
			})
		}
	}
}

// seed is SEED, or another one each time. It is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED: %v", err)
		}
	}
	t.Logf("SEED=%d", s)
	return s
}
