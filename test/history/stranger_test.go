package history_test

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/test/history"
)

// Promise 5: A stranger's long transaction delays only its own events.
func TestStrangersLongTransactionDelaysOnlyItsOwnEvents(t *testing.T) {
	s := newStage(t, quietServer(t))
	r := newRelay(t, s.db, s.ledger)
	r.limit = func() int { return 3 }
	s.follower = r
	s.poll()

	stranger := s.begin() // never touches the outbox
	s.exec(stranger, `select pg_current_xact_id()`)
	writer := s.begin() // has written, and does not end
	s.write(writer, "k9")
	other := s.db.Conn(t)
	for i := range 40 {
		if _, err := other.Exec(t.Context(), history.InsertCounted, fmt.Sprintf("k%d", 1+i%5), []byte{}); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			s.write(writer, "k9")
		}
		s.poll()
		// Not "soon": in the very poll after its commit.
		if got, want := s.ledger.Len(), i+1; got != want {
			t.Fatalf("%d events published after %d commits: somebody's transaction holds others up", got, want)
		}
	}
	s.commit(writer)
	s.poll()
	if got, want := s.ledger.Len(), 40+11; got != want {
		t.Errorf("%d events published after the writer's commit, want %d", got, want)
	}
	s.commit(stranger)
	s.poll()
	if found := s.ledger.Verify(truth(t, s.db)); len(found) > 0 {
		t.Error(found)
	}
}
