package main

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/rebuild"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestRebuildOptions(t *testing.T) {
	good := func(s starting) rebuild.Options {
		t.Helper()
		s.timeout, s.maxLag = time.Minute, time.Second
		o, err := s.options(noon)
		if err == nil {
			err = o.Check()
		}
		if err != nil {
			t.Errorf("%+v: %v", s, err)
		}
		return o
	}
	if o := good(starting{from: "beginning", keepOld: "7d", rate: 5, accept: true}); o.From != "beginning" || o.KeepOld != 7*24*time.Hour || o.Rate != 5 || !o.AcceptChanges {
		t.Errorf("%+v", o)
	}
	if o := good(starting{from: "2d", keepOld: "24h"}); o.From != "2026-02-27T12:00:00Z" {
		t.Errorf("from %q", o.From)
	}
	// 0 is not the default: nothing is kept.
	if o := good(starting{from: "bronze", keepOld: "0"}).WithDefaults(); o.KeepOld > time.Second {
		t.Errorf("kept for %v", o.KeepOld)
	}
	for _, s := range []starting{
		{from: "yesterday", keepOld: "24h"}, {from: "", keepOld: "24h"}, {from: "beginning", keepOld: "long"}, {from: "beginning", keepOld: "-1h"},
		{from: "beginning", keepOld: "24h", rate: -1},
	} {
		s.timeout, s.maxLag = time.Minute, time.Second
		if _, err := s.options(noon); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

// What was asked for is over when it is so, or cannot become so without somebody.
func TestWhenARebuildIsOver(t *testing.T) {
	in := func(s rebuild.State) rebuild.Record {
		return rebuild.Record{Rebuild: &rebuild.Rebuild{ID: "r", State: s}}
	}
	was := func(outcome string) rebuild.Record {
		return rebuild.Record{Last: &rebuild.Rebuild{ID: "r", Outcome: outcome}}
	}
	for _, c := range []struct {
		action     rebuild.Action
		rec        rebuild.Record
		over, done bool
	}{
		{rebuild.Start, in(rebuild.Building), false, false},
		{rebuild.Start, in(rebuild.CuttingOver), false, false},
		{rebuild.Start, in(rebuild.Soaking), true, true},
		{rebuild.Start, in(rebuild.Refused), true, false},
		{rebuild.Start, in(rebuild.Failed), true, false},
		{rebuild.Start, was("done"), true, true},
		{rebuild.Start, was("aborted"), true, false},
		{rebuild.Start, rebuild.Record{Last: &rebuild.Rebuild{ID: "another", Outcome: "done"}}, true, false},
		{rebuild.Accept, in(rebuild.Verifying), false, false},
		{rebuild.Accept, in(rebuild.Soaking), true, true},
		{rebuild.Rollback, rebuild.Record{Rebuild: &rebuild.Rebuild{ID: "r", State: rebuild.Soaking, RollingBack: true}}, false, false},
		{rebuild.Rollback, in(rebuild.Soaking), true, false}, // it was given up
		{rebuild.Rollback, in(rebuild.Retiring), false, false},
		{rebuild.Rollback, was("rolled-back"), true, true},
		{rebuild.Rollback, was("done"), true, false},
		{rebuild.Abort, in(rebuild.Failed), false, false},
		{rebuild.Abort, was("aborted"), true, true},
		{rebuild.Finish, in(rebuild.Soaking), false, false},
		{rebuild.Finish, was("done"), true, true},
	} {
		if over, done := reached(&c.rec, find(&c.rec, "r"), c.action); over != c.over || done != c.done {
			t.Errorf("%s, %+v, %+v: over %v, done %v", c.action, c.rec.Rebuild, c.rec.Last, over, done)
		}
	}
}

func TestProgressOfARebuild(t *testing.T) {
	r := &rebuild.Rebuild{State: rebuild.Building, Old: 1, New: 2, Progress: rebuild.Progress{Events: 1_250_000, Total: 2_500_000, Rate: 86_012.7, Remaining: 14_600 * time.Millisecond,
		Phase: "log", Lag: 12, At: noon}}
	want := "building generation 2, 50%, 1,250,000 of 2,500,000 events, 86,012/s, 15s left, reads the log, live lag 12"
	if got := progressText(r, noon); got != want {
		t.Errorf("\n got  %s\n want %s", got, want)
	}
	// Why it waits stands before what a narrow terminal cuts off.
	r.Progress.Throttled = "the live sink lags by 12s"
	if got := progressText(r, noon); got != strings.Replace(want, ", reads", ", waits: the live sink lags by 12s, reads", 1) {
		t.Error(got)
	}
	if got := barText(r, noon); !strings.Contains(got, "██████████░░░░░░░░░░ 50%") {
		t.Error(got)
	}
	// Nobody writes progress: the person must not think that all is well.
	if got := progressText(r, noon.Add(time.Minute)); !strings.Contains(got, "nobody works on it since 1m0s") {
		t.Error(got)
	}
	r.Paused = true
	if got := progressText(r, noon.Add(time.Minute)); got != "building generation 2, 50%, 1,250,000 of 2,500,000 events, paused, reads the log, live lag 12" {
		t.Error(got)
	}
	// What held the build back says nothing of what comes after it, and before the first look there is nothing to say.
	if got := progressText(&rebuild.Rebuild{State: rebuild.Retiring, Progress: r.Progress}, noon); got != "removing what does not serve" {
		t.Error(got)
	}
	if got := progressText(&rebuild.Rebuild{State: rebuild.Building, New: 2}, noon); got != "building generation 2" {
		t.Error(got)
	}
	// Trouble is told in every state.
	if got := progressText(&rebuild.Rebuild{State: rebuild.CuttingOver, Old: 1, New: 2, Reason: "a transaction is open"}, noon); got != "swapping generation 1 for 2, waits: a transaction is open" {
		t.Error(got)
	}
	// A rollback goes the other way.
	r = &rebuild.Rebuild{State: rebuild.CuttingOver, Old: 1, New: 2, RolledBack: true}
	if got := progressText(r, noon); got != "swapping generation 2 for 1" {
		t.Error(got)
	}
	r = &rebuild.Rebuild{State: rebuild.Soaking, Old: 1, New: 2, RollingBack: true, Reason: "a report reads"}
	if got := progressText(r, noon); got != "generation 1 is about to serve again, waits: a report reads" {
		t.Error(got)
	}
	// Events come while it builds: no more than all of it is ever done.
	r = &rebuild.Rebuild{State: rebuild.CatchingUp, New: 2, Progress: rebuild.Progress{Events: 30, Total: 20}}
	if got := progressText(r, noon); !strings.Contains(got, "100%") {
		t.Error(got)
	}
}

// Into a pipe goes a line for each state, not one for each event, and nothing that moves a cursor.
func TestProgressIntoAPipe(t *testing.T) {
	var out strings.Builder
	v := newRebuildView(&out, "warehouse")
	r := &rebuild.Rebuild{State: rebuild.Building, New: 2, Reason: "\x1b[31mred"}
	for i := range 25 {
		v.at(r, noon.Add(time.Duration(i)*time.Second))
	}
	v.at(&rebuild.Rebuild{State: rebuild.Soaking, Old: 1, New: 2}, noon.Add(26*time.Second))
	v.end()
	if n := strings.Count(out.String(), "\n"); n != 4 || strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("%d lines: %q", n, out.String())
	}
}

func TestComparisonForAPerson(t *testing.T) {
	c := &compare.Comparison{Entities: map[string]*compare.Compared{"order": {
		Old: []compare.Side{{Partition: 0, States: 700, Deleted: 3}, {Partition: 1, States: 501}}, New: []compare.Side{{States: 1201, Deleted: 3}}, Different: 2,
		Changed: []compare.ChangedColumn{{Column: "total", How: "redefined", States: 1201, Examples: []compare.Example{{Key: "o-1", Old: "12.50", New: "15.00"}, {Key: "o-2", Old: "1", New: "1.20"}}},
			{Column: "paid_at", How: "added", States: 900}},
		Differences: []compare.Difference{{Key: "o-\x1b[3m7", Kind: "columns", Columns: []string{"status"}, Old: "'placed'", New: "'paid'", Since: noon}},
	}}}
	var out strings.Builder
	if err := printComparison(&out, c); err != nil {
		t.Fatal(err)
	}
	want := `ENTITY  STATES  NEW    DELETED  NEW  KEYS THAT DIFFER
order   1,201   1,201  3        3    2

The new declarations change:
ENTITY  COLUMN   HOW        STATES  FOR EXAMPLE  OLD    NEW
order   total    redefined  1,201   o-1          12.50  15.00
                                    o-2          1      1.20
order   paid_at  added      900     -

Keys that differ in what should be equal:
ENTITY  KEY       KIND     COLUMNS  SINCE                OLD       NEW
order   o-·[3m7  columns  status   2026-03-01 12:00:00  'placed'  'paid'

`
	if got := out.String(); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}

// The next command to type follows from how it stands.
func TestWhatToTypeNext(t *testing.T) {
	d := &rebuilt{name: "warehouse"}
	for want, r := range map[string]*rebuild.Rebuild{
		"accept warehouse":          {State: rebuild.Refused, Comparison: &compare.Comparison{Acceptable: true}},
		"try the swap again":        {State: rebuild.Refused, Comparison: &compare.Comparison{Equal: true, Acceptable: true}},
		"millrace verify warehouse": {State: rebuild.Refused, Comparison: &compare.Comparison{}},
		"abort warehouse":           {State: rebuild.Failed, Reason: "poison"},
		"rollback warehouse":        {State: rebuild.Soaking},
		"resume warehouse":          {State: rebuild.Building, Paused: true},
	} {
		if got := strings.Join(d.next(&rebuild.Record{Rebuild: r}, r), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: %q", r.State, got)
		}
	}
	refused := &rebuild.Rebuild{State: rebuild.Refused, Comparison: &compare.Comparison{}}
	if got := strings.Join(d.next(&rebuild.Record{Rebuild: refused}, refused), "\n"); strings.Contains(got, "accept") || !strings.Contains(got, "millrace repair warehouse --differences") {
		t.Errorf("what cannot be accepted is offered, or no repair: %q", got)
	}
}
