package relay_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// verified compares the rig's outbox with its topic.
func (r *rig) verified(change ...func(*relay.Config, *relay.VerifyOptions)) *relay.Verified {
	r.t.Helper()
	cfg, opts := r.config(), relay.VerifyOptions{}
	for _, c := range change {
		c(&cfg, &opts)
	}
	v, err := relay.Verify(r.t.Context(), cfg, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// differs expects differences, as KIND of KEY, and nothing else.
func (r *rig) differs(what string, want ...string) *relay.Verified {
	r.t.Helper()
	v := r.verified()
	got := []string{}
	for _, d := range v.Events {
		got = append(got, fmt.Sprintf("%s of %s", d.Kind, d.Key))
		if d.EventID == uuid.Nil && d.Kind != relay.Foreign || d.Topic != r.topic || d.Since.IsZero() {
			r.t.Errorf("%s: what differs is not named: %+v", what, d)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || v.Differences != int64(len(want)) {
		r.t.Errorf("%s: found %d: %v, want %v\n%+v", what, v.Differences, got, want, v)
	}
	return v
}

// undone runs f in between, and puts the rows back as they were.
func (r *rig) undone(f func()) {
	r.t.Helper()
	r.exec(`create table before as table outbox.event`)
	f()
	r.exec(`delete from outbox.event`)
	r.exec(`insert into outbox.event overriding system value select * from before`)
	r.exec(`drop table before`)
}

// produce writes records to the rig's topic, as somebody else may.
func (r *rig) produce(records ...*kgo.Record) {
	r.t.Helper()
	c := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	if err := c.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// copyOf is a record once more, with other headers where they are given.
func copyOf(rec *kgo.Record, headers map[string]string) *kgo.Record {
	c := &kgo.Record{Topic: rec.Topic, Partition: rec.Partition, Key: rec.Key, Value: rec.Value, Timestamp: rec.Timestamp}
	for _, h := range rec.Headers {
		if to, changed := headers[h.Key]; changed {
			h.Value = []byte(to)
		}
		if string(h.Value) != "" {
			c.Headers = append(c.Headers, h)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !slices.ContainsFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == name }) {
			c.Headers = append(c.Headers, kgo.RecordHeader{Key: name, Value: []byte(headers[name])})
		}
	}
	return c
}

// populated publishes rows of Avro and of JSON, two to a transaction, parks some, and discards one of these.
func (r *rig) populated() (run *running, discarded uuid.UUID) {
	r.t.Helper()
	run = r.run(nil)
	for n := int64(1); n <= 10; n++ {
		for _, key := range []string{"a", "b", "c"} {
			tx, err := r.pool.Begin(r.t.Context())
			if err != nil {
				r.t.Fatal(err)
			}
			if err := r.out.Write(r.t.Context(), tx, counted(key, 2*n-1)); err != nil {
				r.t.Fatal(err)
			}
			if _, err := tx.Exec(r.t.Context(), `select outbox.emit('test.Counted', $1, jsonb_build_object('key', $1::text, 'n', $2::bigint), '{"tenant": "t", "x": "y"}')`, key, 2*n); err != nil {
				r.t.Fatal(err)
			}
			if err := tx.Commit(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.unfit("d", 1)
	r.emit("d", 2)
	r.unfit("e", 1)
	run.until("all to be published or parked", func(s relay.Status) bool { return s.Seq == 60 && s.Parked == 3 })
	discarded = r.parkedIDs("e")[0]
	r.discard(false, discarded)
	r.settled()
	return run, discarded
}

// Promises 1 and 3, looked at from outside: what is in the outbox and in the topic alike is no difference, nor is what is parked, or was
// discarded; each other way to differ is found, and named.
func TestPromise1VerifyFindsWhatDiffers(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run, discarded := r.populated()
		v := r.differs("as it should be")
		if v.Rows != 60 || v.Records != 60 || v.Parked != 2 || v.Discarded != 1 || v.Seq != 60 || v.Overtaken+v.BeyondOutbox+v.BeyondTopic+v.Repeats != 0 || len(v.Notes) > 0 {
			t.Errorf("%+v", v)
		}
		if len(v.DiscardedEvents) != 1 {
			t.Fatalf("%+v", v.DiscardedEvents)
		}
		if d := v.DiscardedEvents[0]; d.EventID != discarded || d.Key != "e" || d.By == "" || d.Why != "not wanted" || d.Reason != relay.ReasonSchema || time.Since(d.At) > time.Hour {
			t.Errorf("%+v", d)
		}
		half := func(turn uint64) *relay.Verified {
			return r.verified(func(_ *relay.Config, o *relay.VerifyOptions) { o.Sample, o.Turn = 2, turn })
		}
		if one, other := half(0), half(1); one.Rows+other.Rows != 60 || one.Records+other.Records != 60 || one.Differences+other.Differences != 0 {
			t.Errorf("%+v %+v", one, other)
		}
		run.stop()
		r.plantRows()
		r.plantRecords(discarded)
	})
}

// plantRows changes rows behind the relay's back.
func (r *rig) plantRows() {
	r.t.Helper()
	r.undone(func() {
		r.exec(`delete from outbox.event where id = 7`)
		r.differs("a row deleted", "unknown of a")
	})
	r.undone(func() { // of a transaction that the cursor has seen the end of
		r.exec(`insert into outbox.event (xid, topic, key, type, schema_fp, payload) select '3', topic, 'lost', type, schema_fp, payload from outbox.event where id = 1`)
		r.differs("an event that was never sent", "missing of lost")
	})
	for what, set := range map[string]string{
		"another value": `payload = payload || '\x00' where id = 1`, "another value, of JSON": `body = body || '{"n": 99}' where id = 2`,
		"key": `key = 'z' where id = 1`, "type": `type = 'test.Other' where id = 1`, "other headers": `headers = '{"tenant": "u", "x": "y"}' where id = 2`,
		"another schema": `schema_fp = '\x00112233445566778899aabbccddeeff' where id = 1`, "topic": `topic = topic || '-other' where id = 1`,
	} {
		r.undone(func() {
			r.exec(`update outbox.event set ` + set)
			v := r.verified()
			if len(v.Events) != 1 || v.Events[0].Kind != relay.Changed || !strings.Contains(v.Events[0].Detail, strings.TrimSuffix(what, ", of JSON")) {
				r.t.Errorf("%s: %+v", what, v.Events)
			}
		})
	}
	swap := `update outbox.event e set event_id = o.event_id, payload = o.payload, body = o.body, headers = o.headers from outbox.event o
		where e.id in ($1, $2) and o.id in ($1, $2) and o.id <> e.id`
	r.undone(func() {
		r.exec(swap, 1, 2)
		r.differs("two of a transaction the other way round", "reordered of a")
	})
	r.undone(func() {
		r.exec(swap, 2, 7)
		if v := r.differs("two of different transactions the other way round"); v.Overtaken != 1 || len(v.OvertakenEvents) != 1 || v.OvertakenEvents[0].Key != "a" {
			r.t.Errorf("%+v", v)
		}
	})
}

// plantRecords writes to the topic what no relay wrote.
func (r *rig) plantRecords(discarded uuid.UUID) {
	r.t.Helper()
	byKey := map[string][]*kgo.Record{}
	for _, rec := range r.committed(r.topic) {
		byKey[string(rec.Key)] = append(byKey[string(rec.Key)], rec)
	}
	a := byKey["a"]
	r.produce(copyOf(a[0], map[string]string{"millrace-seq": "1000000"}), copyOf(a[0], map[string]string{relay.HeaderReplayed: "2020-01-01T00:00:00Z"}))
	if v := r.differs("a record of later, and a replayed one"); v.Later != 1 || v.Replayed != 1 {
		r.t.Errorf("%+v", v)
	}
	r.produce(copyOf(a[0], map[string]string{"ce_id": uuid.NewString(), "ce_time": "2020-01-01T00:00:00Z"}))
	if v := r.differs("a record from before the outbox was made"); v.BeyondOutbox != 1 {
		r.t.Errorf("%+v", v)
	}
	r.produce(copyOf(a[0], nil))
	r.differs("a copy", "doubled of a")
	r.produce(copyOf(byKey["b"][0], map[string]string{"millrace-seq": ""}), copyOf(byKey["c"][0], map[string]string{"ce_id": ""}))
	r.differs("records without version and id", "doubled of a", "foreign of b", "foreign of c")
	r.produce(copyOf(byKey["b"][1], map[string]string{"ce_id": uuid.NewString()}))
	r.differs("an event of nobody's", "doubled of a", "foreign of b", "foreign of c", "unknown of b")
	r.produce(copyOf(byKey["c"][1], map[string]string{"ce_id": discarded.String()}))
	r.differs("a discarded event", "doubled of a", "foreign of b", "foreign of c", "unknown of b", "withheld of c")
	late := uuid.New()
	r.exec(`insert into outbox.event (xid, event_id, topic, key, type, schema_fp, payload) select '3', $1, topic, key, type, schema_fp, payload from outbox.event where id = 1`, late)
	r.produce(copyOf(a[0], map[string]string{"ce_id": late.String(), "ce_time": time.Now().UTC().Format(time.RFC3339Nano)}))
	r.differs("an event behind later ones", "doubled of a", "foreign of b", "foreign of c", "unknown of b", "withheld of c", "reordered of a")
}
