package relay_test

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/services/relay"
)

const soakEnv = "MILLRACE_SOAK" // how long the soak test runs, such as 10m

// remember copies each row, in its writer's transaction, to where nothing removes it.
func (r *rig) remember() {
	r.t.Helper()
	r.exec(`create table remembered (event_id uuid primary key)`)
	r.exec(`create function remember() returns trigger language plpgsql as $$ begin insert into public.remembered values (new.event_id); return null; end $$`)
	r.exec(`create trigger remember after insert on outbox.event for each row execute function remember()`)
}

// number asks the database for one number.
func (r *rig) number(sql string) int64 {
	r.t.Helper()
	var n int64
	if err := r.pool.QueryRow(r.t.Context(), sql).Scan(&n); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

const tableBytes = `select sum(pg_total_relation_size(relid)) from pg_partition_tree('outbox.event')`

// Load for a while, with a week's retention compressed into a second: the table stays as large as it was, nothing in it is
// ever updated or deleted, and every event is published once, in order.
func TestSoakWithRetention(t *testing.T) {
	t.Parallel()
	length, err := time.ParseDuration(cmp.Or(os.Getenv(soakEnv), "8s"))
	if err != nil {
		t.Fatalf("%s: %v", soakEnv, err)
	}
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	r.remember()
	said := &lines{}
	run := r.run(func(c *relay.Config) {
		c.Retention.Age = time.Second
		c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(testLog{t}, said), nil))
	})
	var sizes []int64
	began := time.Now()
	for round := uint64(1); time.Since(began) < length || run.Status().Retention.Emptied.IsZero(); round++ {
		if time.Since(began) > length+time.Minute {
			t.Fatalf("no leaf was ever emptied: %+v", run.Status().Retention)
		}
		r.write(load{writers: 4, transactions: 25, keys: 20, seed: round, pause: 5 * time.Millisecond})
		sizes = append(sizes, r.number(tableBytes))
	}
	s := run.Status()
	t.Logf("%d events; %d bytes in the table, at most %d; %+v", r.number(`select count(*) from remembered`), sizes[len(sizes)-1], maxOf(sizes), s.Retention)
	if first, second := maxOf(sizes[:len(sizes)/2]), maxOf(sizes[len(sizes)/2:]); second > 2*first {
		t.Errorf("the table grew from %d to %d bytes", first, second)
	}
	if r.number(`select current_setting('server_version_num')::int`) >= 150000 { // before, what is counted comes by itself, half a second late
		r.exec(`select pg_stat_force_next_flush()`)
	}
	changed := r.number(`select sum(n_tup_upd + n_tup_del) from pg_stat_user_tables where relid in (select relid from pg_partition_tree('outbox.event'))`)
	dead := r.number(`select sum(n_dead_tup) from pg_stat_user_tables where relid in (select relid from pg_partition_tree('outbox.event'))`)
	if changed != 0 {
		t.Errorf("%d rows were updated or deleted one by one", changed)
	}
	t.Logf("%d rows are dead: rolled back", dead)

	after := int64(0)
	// Without load, what is left leaves as well.
	eventually(t, "the last rows to leave", func() error {
		after++
		r.emit("after", after)
		if left := r.number(`select count(*) from outbox.event where key <> 'after'`); left > 0 {
			return fmt.Errorf("%d are there; %+v", left, run.Status().Retention)
		}
		return nil
	})
	run.until("everything to be published", func(s relay.Status) bool { return s.Published >= r.number(`select count(*) from remembered`) })
	if err := run.stop(); err != nil {
		t.Error(err)
	}
	r.checkAgainst(r.idsIn("remembered"))
	said.only(t)
}

// lines are those that a relay logs.
type lines struct {
	mu  sync.Mutex // guards the following
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSpace(string(p)))
	return len(p), nil
}

// only fails if there is a line about what the relay does all day. What begins and ends, and what is wrong, is worth one; the rest are
// metrics.
func (l *lines) only(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	began := 0
	for _, line := range l.all {
		switch {
		case strings.Contains(line, `msg="relay started"`):
			began++
		case strings.Contains(line, "level=INFO") && !strings.Contains(line, `msg="relay `) && !strings.Contains(line, `msg="works again"`):
			t.Errorf("a day of normal running fits on a screen of lines, but not with: %s", line)
		}
	}
	if began != 1 {
		t.Errorf("its start is told %d times, in %d lines", began, len(l.all))
	}
}

func maxOf(list []int64) int64 {
	most := int64(0)
	for _, n := range list {
		most = max(most, n)
	}
	return most
}

// Retention by size; a dump that holds every leaf only delays it, which status and metrics say.
func TestRetentionBySizeWaitsForADump(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakeBroker(t), &memoryRegistry{})
	metrics := prometheus.NewRegistry()
	run := r.run(func(c *relay.Config) {
		c.Retention.Age, c.Retention.Size = 500*time.Millisecond, 1
		c.Metrics = metrics
	})
	r.emit("k", 1)
	eventually(t, "a leaf to be emptied", func() error {
		if s := run.Status().Retention; s.Emptied.IsZero() || s.Leaves != 0 || s.Ahead != 7 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	dump, err := r.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer dump.Rollback(t.Context())
	if _, err := dump.Exec(t.Context(), `select count(*) from outbox.event`); err != nil {
		t.Fatal(err)
	}
	r.emit("k", 2)
	run.until("the delay to be told", func(s relay.Status) bool {
		return s.Retention.Delayed != "" && s.Retention.Leaves > 0 && !s.Retention.DelayedSince.IsZero()
	})
	t.Log(run.Status().Retention.Delayed)
	if n, err := testutil.GatherAndCount(metrics, "millrace_relay_retention_delayed", "millrace_relay_partitions_ahead",
		"millrace_relay_retained_bytes", "millrace_relay_retained_age_seconds", "millrace_relay_leaves_emptied_total"); err != nil || n != 5 {
		t.Errorf("%d metrics, %v", n, err)
	}
	if scrape(t, metrics)["millrace_relay_retention_delayed"] != 1 {
		t.Error("the metric does not show the delay")
	}
	if err := dump.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	run.until("the rows to leave", func(s relay.Status) bool {
		return s.Retention.Delayed == "" && s.Retention.Leaves == 0
	})
	if err := run.stop(); err != nil {
		t.Error(err)
	}
}
