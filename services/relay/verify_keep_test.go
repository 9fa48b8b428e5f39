package relay_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/relay"
)

// The relay that leads compares by itself, and its metrics tell.
func TestTheRelayVerifiesByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	reg := prometheus.NewPedanticRegistry()
	run := r.run(func(c *relay.Config) { c.Metrics, c.Verify.Every = reg, 50*time.Millisecond })
	for n := range int64(10) {
		r.emit("k", n)
	}
	run.untilSeq(10)
	reads := func(differences float64) func() error {
		since := float64(time.Now().UnixNano()) / 1e9
		return func() error {
			m := scrape(t, reg)
			if m["millrace_relay_verify_differences"] != differences || m["millrace_relay_verify_timestamp_seconds"] < since || m["millrace_relay_verify_duration_seconds"] <= 0 {
				return fmt.Errorf("%v, %v, %v", m["millrace_relay_verify_differences"], m["millrace_relay_verify_timestamp_seconds"], m["millrace_relay_verify_duration_seconds"])
			}
			return nil
		}
	}
	eventually(t, "a comparison without differences", reads(0))
	r.plantMissing("lost", "now()")
	eventually(t, "one that finds what is lost", reads(1))
	if run.Status().State != relay.StateLeading {
		t.Errorf("%+v", run.Status())
	}
}

// A comparison now and then needs to know how often, and of what.
func TestVerifiesIsValidated(t *testing.T) {
	r := &rig{t: t, name: "shop", topic: "t", dsn: "postgres://localhost/shop", brokers: []string{"localhost:1"}, registry: &memoryRegistry{}}
	for want, v := range map[string]relay.Verifies{
		"verify.every": {Sample: "1/2"}, "verify.sample": {Every: time.Hour, Sample: "some"}, "": {Every: time.Hour, Sample: "1/16"},
	} {
		cfg := r.config()
		cfg.Verify = v
		_, err := relay.New(cfg)
		var field *relay.FieldError
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && (!errors.As(err, &field) || field.Field != want) {
			t.Errorf("%+v: %s", v, got)
		}
	}
}

// A row of an event that was discarded says so, by whom and why.
func TestATraceTellsOfADiscard(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *rig) {
		run := r.run(nil)
		r.unfit("k", 1)
		run.until("a parked event", func(s relay.Status) bool { return s.Parked == 1 })
		id := r.parkedIDs("k")[0]
		state := func() relay.TracedRow {
			t.Helper()
			rows, err := relay.TraceRows(t.Context(), r.config(), id, "", 10)
			if err != nil || len(rows) != 1 {
				t.Fatalf("%+v %v", rows, err)
			}
			return rows[0]
		}
		if s := state(); s.State != relay.TracedParked || s.Reason != relay.ReasonSchema {
			t.Errorf("%+v", s)
		}
		if a := r.discard(false, id, uuid.New()); a.Discarded != 1 || a.Unknown != 1 {
			t.Errorf("%+v", a)
		}
		r.settled()
		if s := state(); s.State != relay.TracedDiscarded || s.Reason != relay.ReasonSchema || s.ParkedAt.IsZero() {
			t.Errorf("%+v", s)
		}
		// It is on record, and not parked, for a relay that starts.
		run.stop()
		again := r.run(nil)
		r.emit("k", 2)
		again.untilSeq(1)
		if again.Status().Parked != 0 || len(r.parked()) != 0 {
			t.Errorf("%+v", again.Status())
		}
		r.settled()
		if s := state(); s.State != relay.TracedDiscarded {
			t.Errorf("%+v", s)
		}
	})
}
