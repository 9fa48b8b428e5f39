package flights

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// tails are the aircraft whose flights are searched for.
var tails = []string{"N14228", "N24211"}

// checkRebuilt rebuilds the warehouse and the index at the same time, while flights of later days are written. The answers about the days before equal the CSV all the
// while, and in the end those about all days.
//
// Promise 8: every sink can be rebuilt while the old one serves.
func (m *mill) checkRebuilt(t *testing.T, pool *pgxpool.Pool, before, later []Flight) {
	sinks := []string{m.name + "-warehouse", m.name + "-search"}
	first := later[0].Date.Format(time.DateOnly)
	for _, f := range later {
		first = min(first, f.Date.Format(time.DateOnly))
	}
	days := fmt.Sprintf("where date < date '%s'", first)
	want := ByCarrier(before)
	check := func() {
		t.Helper()
		if got := m.carriers(t, days); !maps.Equal(got, want) {
			t.Errorf("warehouse\n got  %v\n want %v", got, want)
		}
		for _, tail := range tails {
			if got, want := m.search(t, "tailnum:"+tail), ByTail(before, tail); !slices.Equal(got, want) {
				t.Errorf("%s\n got  %v\n want %v", tail, got, want)
			}
		}
	}
	check()
	loaded := make(chan error, 1)
	go func() {
		loader := &Loader{Pool: pool, Workers: 4, Seed: seed(t), PerTransaction: 20}
		_, err := loader.Load(context.Background(), later)
		loaded <- err
	}()
	start := time.Now()
	for _, s := range sinks {
		m.run(t, "rebuild", s, "--detach")
	}
	asked := 0
	for deadline := start.Add(10 * time.Minute); ; asked++ {
		check()
		if serving := m.serving(t); serving == 2*len(sinks) {
			break
		} else if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("they are not rebuilt:\n%s", m.run(t, "rebuild", "status"))
		}
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	t.Logf("rebuilt in %.1f s, asked %d times meanwhile", time.Since(start).Seconds(), asked)
	check()
	all := slices.Concat(before, later)
	m.waitFor(t, "every flight", func() (string, bool) {
		got := m.carriers(t, "")
		return fmt.Sprint(got), maps.Equal(got, ByCarrier(all))
	})
	m.waitFor(t, "every document", func() (string, bool) {
		got := m.search(t, "origin:EWR")
		want := 0
		for _, f := range all {
			if f.Origin == "EWR" {
				want++
			}
		}
		return fmt.Sprintf("%d of %d", len(got), want), len(got) == min(want, 1000)
	})
	for _, s := range sinks {
		m.run(t, "rebuild", "finish", s)
	}
	check()
}

// serving is the sum of the generations that serve.
func (m *mill) serving(t *testing.T) (sum int) {
	t.Helper()
	var all []struct {
		Serving int
		Rebuild *struct{ State, Reason string }
	}
	out := m.run(t, "rebuild", "status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, s := range all {
		sum += s.Serving
		if s.Rebuild != nil && (s.Rebuild.State == "failed" || s.Rebuild.State == "refused") {
			t.Fatalf("%s: %s\n%s", s.Rebuild.State, s.Rebuild.Reason, out)
		}
	}
	return sum
}

// waitFor waits until something is so.
func (m *mill) waitFor(t *testing.T, what string, so func() (string, bool)) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		state, ok := so()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %s", what, state)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// apart are flights of the days after a month that leave the answers about tails as they are; n of them.
func apart(all []Flight, month time.Month, n int) (out []Flight) {
	for _, f := range all {
		if f.Date.Month() != month && len(out) < n && (f.Tailnum == nil || !slices.ContainsFunc(tails, func(tail string) bool { return strings.EqualFold(tail, *f.Tailnum) })) {
			out = append(out, f)
		}
	}
	return out
}
