package faults

import (
	"encoding/json"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shortTimeouts let a relay give up soon.
var shortTimeouts = []string{"transaction_timeout: 4s", "publish_timeout: 2s"}

// Promise 3: the request to commit has gone out, no answer has come, and the broker cannot be reached any more. Whether it was
// committed or not, nothing is lost and nothing comes twice: nobody guesses, the cursor says it.
func TestPromise3TheOutcomeOfACommitIsUnknown(t *testing.T) {
	t.Parallel()
	for name, reached := range map[string]bool{"it was committed": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
			r := w.start("relay")
			w.write(2, 20)
			before := r.until("to publish", published(w.log.events()))
			tripped := w.kafka.wire.arm(reached, commits)
			w.emit("k")
			<-tripped
			if reached {
				w.untilCursor(before.T + 1)
			}
			w.kafka.cut()
			w.write(2, 20)
			r.until("to notice", func(s report) bool { return s.Restarts > 0 })
			if at := w.cursor().T; at > before.T && !reached || at <= before.T && reached {
				t.Fatalf("the cursor is at %d after a commit that reached the broker: %v; it was at %d", at, reached, before.T)
			}
			w.kafka.wire.disarm()
			w.kafka.mend()
			w.finish()
		})
	}
}

// Promise 3: the request to commit is lost, and the network has nothing else the matter: the next transaction, with the other id, is
// sent meanwhile, and could be committed.
func TestPromise3NothingIsCommittedBehindACommitThatIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
	r := w.start("relay")
	w.write(2, 20)
	before := r.until("to publish", published(w.log.events()))
	lost := w.kafka.wire.lose(commits)
	w.emit("k")
	<-lost
	sent := w.kafka.wire.count(kmsg.Produce)
	w.write(2, 20)
	eventually(t, "the next transaction to be sent", func() (bool, string) { return w.kafka.wire.count(kmsg.Produce) > sent, "" })
	r.until("to start from the cursor", func(s report) bool { return s.Restarts > before.Restarts })
	w.finish()
}

// cursorRecord is what is looked at of the record that says what has been published.
type cursorRecord struct {
	T    int64  `json:"t"`
	Seq  int64  `json:"seq"`
	Last string `json:"last"`
}

// cursor reads the newest committed cursor, past the gate, once no transaction is open.
func (w *world) cursor() cursorRecord {
	w.t.Helper()
	var c cursorRecord
	for _, rec := range w.records(w.cursorTopic()) {
		if string(rec.Key) != "cursor" {
			continue
		}
		if err := json.Unmarshal(rec.Value, &c); err != nil {
			w.t.Fatalf("cursor at offset %d: %v", rec.Offset, err)
		}
	}
	return c
}

func (w *world) untilCursor(t int64) {
	w.t.Helper()
	eventually(w.t, "the cursor to be committed", func() (bool, string) {
		return w.cursor().T >= t, ""
	})
}

// Promise 3: a partition of the network that lasts longer than the transaction's timeout: the broker aborts what was open.
func TestPromise3APartitionLongerThanTheTransactionTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{outbox: append([]string{"page_size: 20"}, shortTimeouts...)})
	r := w.start("relay")
	w.write(2, 20)
	before := r.until("to publish", published(w.log.events()))
	tripped := w.kafka.wire.arm(false, commits)
	w.emit("k")
	<-tripped
	end := w.kafka.swallow()
	w.write(2, 20)
	if open := w.openTransactions(); open == 0 {
		t.Error("no transaction was open when the network went away")
	}
	eventually(t, "the broker to abort the transaction", func() (bool, string) { return w.openTransactions() == 0, "" })
	if at := w.cursor().T; at != before.T {
		t.Fatalf("the cursor is at %d, want %d", at, before.T)
	}
	r.until("to notice", func(s report) bool { return s.Restarts > 0 && s.Reason != "" })
	w.kafka.wire.disarm()
	end()
	w.finish()
}

// openTransactions counts the outbox's transactions that the broker knows to be neither committed nor aborted. They have
// shortTimeouts.
func (w *world) openTransactions() int {
	w.t.Helper()
	all, err := w.admin.DescribeTransactions(w.t.Context(), "millrace."+w.name+".0", "millrace."+w.name+".1")
	if err != nil {
		w.t.Fatal(err)
	}
	open := 0
	all.Each(func(d kadm.DescribedTransaction) {
		if d.TimeoutMillis != 4000 {
			w.t.Errorf("%s has a timeout of %d ms, configured are 4 s", d.TxnID, d.TimeoutMillis)
		}
		if d.State == "Ongoing" {
			open++
		}
	})
	return open
}
