package history_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/history"
)

// stage is where one interleaving is played, step by step.
type stage struct {
	*testing.T
	db       *harness.PostgresDB
	ledger   *history.Ledger
	follower follower
	// between sets what happens once, in the middle of the follower's next poll.
	between func(func())
}

// begin starts a transaction on a connection of its own.
func (s *stage) begin() pgx.Tx {
	s.Helper()
	tx, err := s.db.Conn(s.T).Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return tx
}

func (s *stage) exec(tx pgx.Tx, sql string, args ...any) {
	s.Helper()
	if _, err := tx.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
}

// write writes an event of the key in the transaction.
func (s *stage) write(tx pgx.Tx, key string) {
	s.Helper()
	s.exec(tx, history.InsertCounted, key, []byte{})
}

func (s *stage) commit(tx pgx.Tx) {
	s.Helper()
	if err := tx.Commit(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) poll() {
	s.Helper()
	if _, err := s.follower.poll(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// interleavings are what the traps do not survive. Each is played to the trap, which must be found out, and to the
// product.
var interleavings = []struct {
	name string
	trap func(*pgx.Conn, *history.Ledger) follower
	want history.Kind
	play func(*stage)
}{
	{
		// T1 draws its transaction id first and commits last: by xid, its event comes out first.
		name: "order by xid inverts a key",
		trap: func(c *pgx.Conn, l *history.Ledger) follower { return &byXid{conn: c, ledger: l} },
		want: history.Inversion,
		play: func(s *stage) {
			t1, t2 := s.begin(), s.begin()
			s.exec(t1, `select pg_current_xact_id()`)
			s.write(t2, "k1")
			s.commit(t2)
			s.write(t1, "k1")
			s.commit(t1)
		},
	},
	{
		name: "ids above the last one lose what commits later",
		trap: func(c *pgx.Conn, l *history.Ledger) follower { return &byID{conn: c, ledger: l} },
		want: history.Missing,
		play: func(s *stage) {
			t1, t2 := s.begin(), s.begin()
			s.write(t1, "k1")
			s.write(t2, "k2")
			s.commit(t2)
			s.poll()
			s.commit(t1)
		},
	},
	{
		// xmax is the latest completed transaction plus one: T1 runs already when `last` is taken, is not below its
		// xmax, and holds an id that the sequence has passed.
		name: "the sequence is no lower bound",
		trap: func(c *pgx.Conn, l *history.Ledger) follower {
			return &difference{conn: c, ledger: l, bound: sequenceBound}
		},
		want: history.Missing,
		play: func(s *stage) {
			t1 := s.begin()
			s.write(t1, "k1")
			s.poll()
			s.commit(t1)
		},
	},
	{
		// T1 holds the lower id and commits between the question for the lowest id and the upper snapshot.
		name: "the lowest id asked before upper loses a lower one",
		trap: func(c *pgx.Conn, l *history.Ledger) follower {
			return &difference{conn: c, ledger: l, bound: lowestFirst}
		},
		want: history.Missing,
		play: func(s *stage) {
			t1, t2 := s.begin(), s.begin()
			s.write(t1, "k1")
			s.write(t2, "k2")
			s.commit(t2)
			s.between(func() { s.commit(t1) })
			s.poll()
		},
	},
}

// The checker must fail when a trap is put back: each is staged by hand. The product must pass on the same stage, and
// so must a plain reader that falls into no trap.
func TestStagedInterleavings(t *testing.T) {
	server := quietServer(t)
	for _, i := range interleavings {
		t.Run(i.name, func(t *testing.T) {
			t.Run("trap", func(t *testing.T) {
				s := newStage(t, server)
				s.follower = i.trap(s.db.Conn(t), s.ledger)
				if d, ok := s.follower.(*difference); ok {
					s.between = func(f func()) { d.beforeUpper = once(f) }
				}
				found := history.Count(s.play(i.play))
				if found[i.want] == 0 {
					t.Errorf("the checker found %v, want %s", found, i.want)
				}
			})
			t.Run("plain difference", func(t *testing.T) {
				s := newStage(t, server)
				d := &difference{conn: s.db.Conn(t), ledger: s.ledger}
				s.follower, s.between = d, func(f func()) { d.beforeUpper = once(f) }
				if found := s.play(i.play); len(found) > 0 {
					t.Error(found)
				}
			})
			for _, limit := range []int{1, 10} {
				t.Run(fmt.Sprintf("product, pages of %d", limit), func(t *testing.T) {
					s := newStage(t, server)
					r := newRelay(t, s.db, s.ledger)
					r.limit = func() int { return limit }
					s.follower, s.between = r, func(f func()) { r.beforeGate = once(f) }
					if found := s.play(i.play); len(found) > 0 {
						t.Error(found)
					}
				})
			}
		})
	}
}

func newStage(t *testing.T, server *harness.PostgresProcess) *stage {
	return &stage{T: t, db: newOutbox(t, server), ledger: history.NewLedger()}
}

// play plays the interleaving to its end and returns what the checker finds.
func (s *stage) play(steps func(*stage)) []history.Violation {
	s.Helper()
	s.poll()
	steps(s)
	for range 3 {
		s.poll()
	}
	return s.ledger.Verify(truth(s.T, s.db))
}

// newRelay is the product as it is when nobody disturbs it.
func newRelay(t *testing.T, db *harness.PostgresDB, ledger *history.Ledger) *relay {
	r := &relay{dsn: db.DSN, ledger: ledger, rng: rand.New(rand.NewPCG(1, 1)), limit: func() int { return 10 }}
	t.Cleanup(r.crash)
	return r
}

func once(f func()) func() {
	return func() {
		if f != nil {
			g := f
			f = nil
			g()
		}
	}
}
