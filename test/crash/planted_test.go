package crash

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The parts of the proof, as it calls them.
const (
	claimComplete  = "committed events = events in the topics"
	claimOnce      = "none twice in the topics"
	claimOrder     = "order kept for every key"
	claimBronze    = "committed events = events in the warehouse, none twice"
	claimSequence  = "order kept in the warehouse"
	claimWarehouse = "warehouse = the application's own tables"
	claimSearch    = "search documents = the application's own tables"
)

var allClaims = []string{claimComplete, claimOnce, claimOrder, claimBronze, claimSequence, claimWarehouse, claimSearch}

// someEvent is the youngest event of a key that has several: one order's, say.
const someEvent = `(select max(id) from outbox.event where (topic, key) in (select topic, key from outbox.event group by topic, key having count(*) > 2))`

// plantDifferences shows that the proof can fail: a world that has just been proved is changed behind everybody's back.
func (w *world) plantDifferences() {
	w.t.Helper()
	w.roles[0].stop() // the relay would publish what is written here
	for _, d := range []struct {
		name         string
		change, undo []string
		claims       []string
	}{
		{
			name: "a committed event that was not published",
			change: []string{`insert into outbox.event (topic, key, type, schema_fp, payload, body, headers)
				select topic, key, type, schema_fp, payload, body, headers from outbox.event where id = ` + someEvent},
			undo:   []string{`delete from outbox.event where id = (select max(id) from outbox.event)`},
			claims: []string{claimComplete, claimOrder, claimBronze},
		}, {
			name: "a published event that was not committed",
			change: []string{`create table kept as select * from outbox.event where id = ` + someEvent,
				`delete from outbox.event where id = (select id from kept)`},
			undo:   []string{`insert into outbox.event select * from kept`, `drop table kept`},
			claims: []string{claimComplete, claimOrder, claimBronze},
		}, {
			name:   "two events of a key in the other order",
			change: swapLastTwo,
			undo:   swapLastTwo,
			claims: []string{claimOrder},
		}, {
			name:   "a row that no event tells of",
			change: []string{`update shop.customer set city = city || '?' where customer_id = (select min(customer_id) from shop.customer)`},
			undo:   []string{`update shop.customer set city = rtrim(city, '?')`},
			claims: []string{claimWarehouse, claimSearch},
		},
	} {
		w.exec(d.change...)
		w.mustFind(d.name, d.claims...)
		w.exec(d.undo...)
	}
	w.exec(`update shop.product set price = price + 1`)
	if wrong, _, _ := w.wrongStates(); wrong != int(w.count(`select count(*) from shop.product where retired_at is null`)) {
		w.t.Errorf("prices that the cache was not told of: %d states were found to be wrong", wrong)
	}
	if stale, cached := w.stalePages(); stale != cached {
		w.t.Errorf("prices that the cache was not told of: found out of %d of %d pages", stale, cached)
	}
	w.exec(`update shop.product set price = price - 1`)
	w.mustFind("nothing, everything undone")

	w.publishAgain()
	w.roles[0].start()
	w.waitCaughtUp()
	w.mustFind("an event published twice", claimOnce, claimOrder, claimBronze, claimSequence)
}

// swapLastTwo makes the first event of a key the second.
var swapLastTwo = []string{`with two as (
		select min(id) as a, max(id) as b from (
			select id from outbox.event where (topic, key) = (select topic, key from outbox.event where id = ` + someEvent + `) order by id limit 2) x)
	update outbox.event e set event_id = o.event_id from outbox.event o, two
	where (e.id = two.a and o.id = two.b) or (e.id = two.b and o.id = two.a)`}

// mustFind fails the test unless exactly these parts of the proof fail.
func (w *world) mustFind(planted string, claims ...string) {
	w.t.Helper()
	for _, c := range w.prove() {
		if want := !slices.Contains(claims, c.Claim); c.OK != want {
			w.t.Errorf("planted: %s: %q is %v (%s), want %v", planted, c.Claim, c.OK, c.Detail, want)
		}
	}
}

func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, sql := range statements {
		tag, err := w.pool.Exec(w.t.Context(), sql)
		if err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
		if tag.RowsAffected() == 0 && tag.String() != "DROP TABLE" {
			w.t.Fatalf("%s changed nothing", sql)
		}
	}
}

// stalePages counts the cached pages that differ from the tables.
func (w *world) stalePages() (stale, cached int) {
	w.t.Helper()
	pages, cached, err := w.shop.last.CheckPages(w.t.Context())
	if err != nil {
		w.t.Fatalf("look at the cached pages: %v", err)
	}
	return len(pages), cached
}

// publishAgain sends a record once more, as a producer without transactions might.
func (w *world) publishAgain() {
	w.t.Helper()
	var again *kgo.Record
	if err := w.eachRecord(w.t.Context(), func(r *kgo.Record) { again = r }); err != nil {
		w.t.Fatal(err)
	}
	cl := w.kafka.Client(w.t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	copied := &kgo.Record{Topic: again.Topic, Partition: again.Partition, Key: again.Key, Value: again.Value, Headers: again.Headers}
	if err := cl.ProduceSync(w.t.Context(), copied).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}
