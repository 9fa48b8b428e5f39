package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/millrace/demo"
)

// catchUpPatience bounds the wait after the last event, on a machine that has other things to do.
const catchUpPatience = 3 * time.Minute

// finish closes the shop, waits for everybody and proves that all is there.
func (w *world) finish() {
	w.t.Helper()
	w.shop.close()
	w.waitCaughtUp()
	w.shop.calm()
	w.waitCaughtUp()
	w.mustProve()
}

// stop ends every role in order.
func (w *world) stop() {
	w.t.Helper()
	for _, r := range w.roles {
		if r.process != nil {
			r.stop()
		}
	}
}

// waitCaughtUp waits until every event of the outbox is published and every sink stands at the end of every topic.
func (w *world) waitCaughtUp() {
	w.t.Helper()
	adm := kadm.NewClient(w.kafka.Client(w.t))
	committed := w.count("select count(*) from outbox.event")
	eventually(w.t, "for the end", catchUpPatience, func() (bool, string) {
		for _, r := range w.roles {
			r.mustRun()
		}
		positions, relay := w.look()
		if relay.Seq+relay.Parked < committed {
			return false, fmt.Sprintf("%d events committed, the relay's report is %+v", committed, relay)
		}
		ends, err := adm.ListCommittedOffsets(w.t.Context(), w.topics()...)
		if err = errors.Join(err, ends.Error()); err != nil {
			return false, err.Error()
		}
		behind := ""
		ends.Each(func(o kadm.ListedOffset) {
			for _, s := range sinkNames {
				if at := positions[s][place(o.Topic, o.Partition)]; at < o.Offset {
					behind = fmt.Sprintf("%s is at %d of %d in %s/%d", s, at, o.Offset, o.Topic, o.Partition)
				}
			}
		})
		return behind == "", behind
	})
}

// look asks every process: the positions of the sinks by name and place, and the leading relay's report.
func (w *world) look() (positions map[string]map[string]int64, relay report) {
	positions = map[string]map[string]int64{}
	for _, r := range w.roles {
		if r.process == nil {
			continue
		}
		all, err := r.reports(w.t.Context())
		if err != nil {
			continue
		}
		if one := all["relay "+w.name]; one.State == "leading" {
			relay = one
		}
		for _, s := range sinkNames {
			for _, p := range all["sink "+w.sink(s)].Partitions {
				if positions[s] == nil {
					positions[s] = map[string]int64{}
				}
				at := place(p.Topic, p.Partition)
				positions[s][at] = max(positions[s][at], p.Position)
			}
		}
	}
	return positions, relay
}

func (w *world) count(sql string) int64 {
	w.t.Helper()
	var n int64
	if err := w.pool.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// prove runs the checker of the shop.
func (w *world) prove() []demo.Check {
	w.t.Helper()
	url := func(sink, what string) string {
		for _, r := range w.roles {
			if slices.Contains(r.args, w.sink(sink)) {
				return r.base + "/v1/sinks/" + w.sink(sink) + "/" + what
			}
		}
		return ""
	}
	checks, err := demo.Prove(w.t.Context(), demo.Where{
		Postgres: w.postgres, Brokers: w.kafka.Brokers, Topics: w.topics(), SQL: url("warehouse", "sql"), Search: url("search", "search"),
	})
	if err != nil {
		w.t.Fatalf("the proof could not be finished: %v", err)
	}
	if len(checks) != len(allClaims) {
		w.t.Fatalf("%d checks, want %d: %+v", len(checks), len(allClaims), checks)
	}
	return checks
}

// mustProve fails the test for every part of the proof that does not hold.
func (w *world) mustProve() {
	w.t.Helper()
	for _, c := range w.prove() {
		if c.OK {
			w.t.Logf("proved: %s (%s)", c.Claim, c.Detail)
		} else {
			w.t.Errorf("NOT SO: %s (%s)", c.Claim, c.Detail)
		}
	}
	w.mustHoldNothingBack()
	if wrong, compared, example := w.wrongStates(); wrong != 0 {
		w.t.Errorf("NOT SO: the cache's states = the application's own tables (%d compared, %d differ%s)", compared, wrong, example)
	} else {
		w.t.Logf("proved: the cache's states = the application's own tables (%d compared)", compared)
	}
	w.mustShowNothingStale()
}

// mustHoldNothingBack fails the test if an event was parked or became a dead letter: nothing here deserves it.
func (w *world) mustHoldNothingBack() {
	w.t.Helper()
	if _, relay := w.look(); relay.Parked != 0 {
		w.t.Errorf("%d events are parked", relay.Parked)
	}
	adm := kadm.NewClient(w.kafka.Client(w.t))
	ends, err := adm.ListEndOffsets(w.t.Context(), w.internalTopics()[2:]...)
	if err != nil {
		w.t.Fatalf("look for dead letters: %v", err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
			return // made with the first dead letter
		}
		if o.Err != nil || o.Offset != 0 {
			w.t.Errorf("dead letters in %s: end %d, %v", o.Topic, o.Offset, o.Err)
		}
	})
}

// mustShowNothingStale looks at what visitors were shown while the cache was killed, and at what they would be shown now.
func (w *world) mustShowNothingStale() {
	w.t.Helper()
	p := w.shop.mustTrade()
	stale, cached := w.stalePages()
	if p.Stale != 0 || stale != 0 || p.Hits == 0 || cached == 0 {
		w.t.Errorf("NOT SO: the cache never served a stale page (%d shown, %d from the cache, %d stale; %d of %d cached pages are out of date now)",
			p.Views, p.Hits, p.Stale, stale, cached)
		return
	}
	w.t.Logf("proved: the cache never served a stale page (%d shown, %d from the cache; %d cached pages equal the tables)", p.Views, p.Hits, cached)
}

// keepOrRemove removes the folder of a run that went well, and completes that of one that did not.
func (w *world) keepOrRemove() {
	if !w.t.Failed() {
		if err := os.RemoveAll(w.dir); err != nil {
			w.t.Log(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(w.dump("outbox.tsv", func(f io.Writer) error { return w.dumpOutbox(ctx, f) }),
		w.dump("topics.tsv", func(f io.Writer) error { return w.dumpTopics(ctx, f) })); err != nil {
		w.t.Log(err)
	}
	w.t.Logf("configuration, data, logs, outbox.tsv and topics.tsv are left in %s", w.dir)
}

func (w *world) dump(name string, write func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(w.dir, name))
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (w *world) dumpOutbox(ctx context.Context, f io.Writer) error {
	conn, err := pgx.Connect(ctx, w.postgres)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().CopyTo(ctx, f, "copy (select id, xid, event_id, topic, key, type, occurred_at from outbox.event order by id) to stdout")
	return err
}

// dumpTopics writes every record with its headers, those of aborted transactions left out.
func (w *world) dumpTopics(ctx context.Context, f io.Writer) error {
	return w.eachRecord(ctx, func(r *kgo.Record) {
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, h.Key+"="+string(h.Value))
		}
		fmt.Fprintf(f, "%s/%d\t%d\t%s\t%s\n", r.Topic, r.Partition, r.Offset, r.Key, strings.Join(headers, " "))
	})
}

// eachRecord calls f for the committed records of the topics.
func (w *world) eachRecord(ctx context.Context, f func(*kgo.Record)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers...), kgo.ConsumeTopics(w.topics()...), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, w.topics()...)
	if err = errors.Join(err, ends.Error()); err != nil {
		return err
	}
	left := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) { left[place(o.Topic, o.Partition)] = o.Offset })
	maps.DeleteFunc(left, func(_ string, end int64) bool { return end == 0 })
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				f(r)
			}
			if p := place(r.Topic, r.Partition); r.Offset >= left[p]-1 {
				delete(left, p)
			}
		})
	}
	return nil
}
