package relay_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/services/relay"
)

// unfitRound writes an event of each key in one transaction, of a schema that the outbox does not hold yet.
func (r *rig) unfitRound(keys []string, n int) {
	r.t.Helper()
	s, err := schemas.Parse(r.laterSchema())
	if err != nil {
		r.t.Fatal(err)
	}
	r.exec(`insert into outbox.event (topic, key, type, schema_fp, body)
		select $1, k, 'test.Counted', $2, jsonb_build_object('key', k, 'n', $3::bigint) from unnest($4::text[]) k`, r.topic, s.Fingerprint[:], n, keys)
}

// Events of many keys lie mixed on the parked topic: a release reads it once for a page, and not once for each event.
func TestAReleaseReadsMixedLinesTogether(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var fetches atomic.Int64
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetches.Add(1)
		req.(*kmsg.FetchRequest).MaxBytes = 1 // a batch an answer, as if each were large
		return nil, nil, false
	})
	r := newRig(t, c.ListenAddrs(), &memoryRegistry{})
	run := r.run(nil)
	const rounds = 12
	var keys []string
	for i := range 12 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for n := 1; n <= rounds; n++ {
		r.unfitRound(keys, n)
		run.until("a round to be parked", func(s relay.Status) bool { return s.Parked == int64(n*len(keys)) })
	}
	r.mend()
	before := fetches.Load()
	if a := r.release(relay.Selection{All: true}); a.Released != int64(rounds*len(keys)) || a.Stopped > 0 {
		t.Fatalf("%+v", a)
	}
	if n := fetches.Load() - before; n > 4*rounds {
		t.Errorf("%d answers were read for %d events in %d batches", n, rounds*len(keys), rounds)
	}
	r.committed(relay.CursorTopic(r.name)) // every marker is written
	codec, err := avro.New(r.laterSchema())
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int64{}
	for _, rec := range r.committed(r.topic) {
		_, payload, err := avro.SplitFrame(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := codec.Decode(payload)
		if err != nil {
			t.Fatal(err)
		}
		key, n := string(rec.Key), fields["n"].(int64)
		if n != next[key]+1 {
			t.Errorf("key %s: %d after %d", key, n, next[key])
		}
		next[key] = n
	}
	for _, key := range keys {
		if next[key] != rounds {
			t.Errorf("key %s: %d events", key, next[key])
		}
	}
}

// What is parked can be asked for by key and by reason, the first few or all, in the order in which it was parked.
func TestAnIndexOfWhatIsParked(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.unfitRound([]string{"a", "b", "c"}, 1)
		r.unfitRound([]string{"a", "b", "c"}, 2)
		r.row(r.topic, "d", r.fingerprint(), nil, `{"key": "d", "n": "many"}`, nil)
		run.until("all to be parked", func(s relay.Status) bool { return s.Parked == 7 })
		all := r.parked()
		r.discard(true, all[0].EventID) // a's first; its second is written again, to be held
		r.stableEnds(t.Context(), relay.ParkedTopic(r.name))
		all = slices.Delete(all, 0, 1)
		key := "b"
		for what, c := range map[string]struct {
			s    relay.Selection
			want func(p *relay.Parked) bool
		}{
			"all":          {relay.Selection{All: true}, func(*relay.Parked) bool { return true }},
			"a key":        {relay.Selection{Topic: r.topic, Key: &key}, func(p *relay.Parked) bool { return p.Key == "b" }},
			"a reason":     {relay.Selection{Reason: relay.ReasonBehind}, func(p *relay.Parked) bool { return p.Reason == relay.ReasonBehind && p.Key != "a" }},
			"a new reason": {relay.Selection{Reason: relay.ReasonHeld}, func(p *relay.Parked) bool { return p.Key == "a" }},
			"ids":          {relay.Selection{Events: []uuid.UUID{all[1].EventID, uuid.New()}}, func(p *relay.Parked) bool { return p.EventID == all[1].EventID }},
		} {
			x, err := relay.OpenParked(t.Context(), []kgo.Opt{kgo.SeedBrokers(r.brokers...)}, r.name, c.s, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			var want []uuid.UUID
			for _, p := range all {
				if c.want(p) {
					want = append(want, p.EventID)
				}
			}
			if got := x.IDs(); len(want) == 0 || !slices.Equal(got, want) || x.Len() != len(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			for _, n := range []int{0, 1, 2, 100} {
				var got []uuid.UUID
				err := x.Each(t.Context(), n, func(p *relay.Parked) error { got = append(got, p.EventID); return nil })
				if few := want[:min(len(want), max(n, len(want)*(1-min(n, 1))))]; err != nil || !slices.Equal(got, few) {
					t.Errorf("%s, the first %d: %v %v, want %v", what, n, got, err, few)
				}
			}
			enough := errors.New("enough")
			if err := x.Each(t.Context(), 0, func(*relay.Parked) error { return enough }); !errors.Is(err, enough) {
				t.Errorf("%s: %v", what, err)
			}
			sum := 0
			for _, n := range x.Reasons() {
				sum += n
			}
			if sum != len(want) {
				t.Errorf("%s: %v", what, x.Reasons())
			}
		}
	})
}
