package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// rows is what the table holds: ids by event.
func (w *world) rows() map[uuid.UUID]int64 {
	w.t.Helper()
	got, err := w.pool.Query(w.t.Context(), `select event_id, id from outbox.event`)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[uuid.UUID]int64{}
	var event [16]byte
	var id int64
	if _, err := pgx.ForEachRow(got, []any{&event, &id}, func() error { all[event] = id; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// stamps are the xids of the table, to see whether anything was changed.
func (w *world) stamps() (sum string) {
	w.t.Helper()
	err := w.pool.QueryRow(w.t.Context(), `select coalesce(md5(string_agg(id || ' ' || xid::text, ',' order by id)), '') from outbox.event`).Scan(&sum)
	if err != nil {
		w.t.Fatal(err)
	}
	return sum
}

// committed reads a topic to its end as a read_committed consumer sees it.
func (w *world) committed(topic string) []*kgo.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	ends := map[int32]int64{}
	at := map[int32]kgo.Offset{}
	left := 0
	eventually(w.t, "open transactions to end", func() error {
		high, err := w.admin.ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		stable, err := w.admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		left = 0
		for p, h := range high[topic] {
			if s, _ := stable.Lookup(topic, p); s.Offset < h.Offset {
				return fmt.Errorf("partition %d is stable up to %d of %d", p, s.Offset, h.Offset)
			}
			ends[p], at[p] = h.Offset, kgo.NewOffset().AtStart()
			if h.Offset > 0 {
				left++
			}
		}
		return errors.Join(high.Error(), stable.Error())
	})
	c, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	var out []*kgo.Record
	for left > 0 {
		fetches := c.PollFetches(ctx)
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			w.t.Fatalf("read %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 == ends[r.Partition] {
				left--
			}
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
		})
	}
	return out
}

func eventID(r *kgo.Record) (id uuid.UUID) {
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			id, _ = uuid.ParseBytes(h.Value)
		}
	}
	return id
}

func seq(r *kgo.Record) (n int64) {
	for _, h := range r.Headers {
		if h.Key == "millrace-seq" {
			n, _ = strconv.ParseInt(string(h.Value), 10, 64)
		}
	}
	return n
}

// lost are the events of the topic that the table does not hold, as the checker finds them.
func (w *world) lost() []relay.LostEvent {
	w.t.Helper()
	rows := w.rows()
	var all []relay.LostEvent
	for _, r := range w.committed(w.topic) {
		if _, ok := rows[eventID(r)]; !ok {
			all = append(all, relay.LostEvent{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), EventID: eventID(r), Seq: seq(r)})
		}
	}
	return all
}

// checkLost compares what was listed with what the checker finds, and with the number that the test lost on purpose. Parked events
// are not in the topic and counted by themselves.
func (w *world) checkLost(got []relay.LostEvent, lost, parked int) {
	w.t.Helper()
	var events, held []relay.LostEvent
	for _, e := range got {
		e.OccurredAt = time.Time{}
		if e.Parked {
			held = append(held, e)
		} else {
			events = append(events, e)
		}
	}
	want := w.lost()
	byPlace := func(a, b relay.LostEvent) int {
		return int(a.Partition-b.Partition)*1_000_000 + int(a.Offset-b.Offset)
	}
	slices.SortFunc(want, byPlace)
	slices.SortFunc(events, byPlace)
	if !slices.Equal(events, want) {
		w.t.Errorf("listed as lost:\n%+v\nlost:\n%+v", events, want)
	}
	if len(events) != lost || len(held) != parked {
		w.t.Errorf("%d events and %d parked ones listed as lost, want %d and %d", len(events), len(held), lost, parked)
	}
}

// check holds the topic against the table: every event that is committed there once, but for those in absent; the events of a
// key in the order of their ids; versions that only grow in a partition. Events of the topic that the table does not hold must be
// those in lost.
//
// Promises 1 to 3, over a database that went back in time: nothing invented, nothing lost, in order, exactly once.
func (w *world) check(lost []relay.LostEvent, absent map[uuid.UUID]bool) {
	w.t.Helper()
	rows, gone := w.rows(), map[uuid.UUID]bool{}
	for _, e := range lost {
		gone[e.EventID] = true
	}
	seen, lastID, lastSeq := map[uuid.UUID]bool{}, map[string]int64{}, map[int32]int64{}
	var twice, ghosts, inversions, repeated, stale int
	for _, r := range w.committed(w.topic) {
		id := eventID(r)
		if seen[id] {
			twice++
		}
		seen[id] = true
		if absent[id] {
			repeated++
		}
		if n := seq(r); n <= lastSeq[r.Partition] {
			stale++
		} else {
			lastSeq[r.Partition] = n
		}
		row, ok := rows[id]
		switch {
		case !ok && !gone[id]:
			ghosts++
		case ok && row < lastID[string(r.Key)]:
			inversions++
		case ok:
			lastID[string(r.Key)] = row
		}
	}
	parked, err := relay.ListParked(w.t.Context(), w.config().Kafka, w.name)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range parked {
		if seen[p.EventID] {
			twice++
		}
		seen[p.EventID] = true
	}
	missing := 0
	for id := range rows {
		if !seen[id] && !absent[id] {
			missing++
		}
	}
	if twice+ghosts+inversions+missing+repeated+stale > 0 {
		w.t.Errorf("of %d committed events %d are missing, %d came twice, %d came again though the topic had forgotten them; %d are neither committed nor listed as lost, "+
			"%d broke the order of their key, %d have a version not above the one before", len(rows), missing, twice, repeated, ghosts, inversions, stale)
	}
	w.t.Logf("%d events committed, %d seen, %d lost", len(rows), len(seen), len(gone))
}
