package matrix

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// duplicates is every event once more, in order, as a producer that repeats itself after a restart leaves them.
func duplicates(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(300)
	r.start()
	r.caughtUp()
	again := make([]*kgo.Record, len(r.sent))
	for i, rec := range r.sent {
		again[i] = &kgo.Record{Topic: rec.Topic, Partition: rec.Partition, Key: rec.Key, Value: rec.Value, Headers: rec.Headers}
	}
	r.produce(again[:200]...)
	r.fill(100)
	r.produce(again[100:]...) // and within one batch with new ones
	r.fill(100)
	r.verify()
}

// enlarged is a topic to which somebody adds partitions while it is followed.
func enlarged(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	r.fill(200)
	p := r.start()
	r.caughtUp()
	if resp, err := r.adm.CreatePartitions(t.Context(), 2, r.topic); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	r.fill(100) // the relay goes on as before
	r.owns(p, 4)
	foreign := r.event("of somebody else", "in a partition that is new")
	foreign.Partition = 3
	r.connect() // a client that knows of it
	r.produce(foreign)
	r.fill(100)
	r.verify()
}

// recreated is a topic that is deleted and made again while the sink is stopped, with as many events as the sink has applied and more: its position looks as if it were one. The sink
// applies nothing, says so, and goes on with what a rebuild makes of the new topic.
func recreated(t *testing.T, kind string) {
	r := newRig(t, kind, 1)
	r.fill(200)
	r.start()
	r.caughtUp()
	r.stop()
	before, _ := r.stored()
	if _, err := r.adm.DeleteTopic(t.Context(), r.topic); err != nil {
		t.Fatal(err)
	}
	r.eventually("the topic to be made again", func() error {
		_, err := r.adm.CreateTopic(t.Context(), 1, 1, nil, r.topic)
		return err
	})
	r.connect()
	r.sent, r.seq, r.truth = nil, 0, map[string]account{}
	r.fill(300)
	if kind == "webhook" { // there is nothing to rebuild
		r.mustStop("the topic was deleted and created again")
		if after, _ := r.stored(); len(before) == 0 || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("it had done\n%v\nand has done\n%v", before, after)
		}
		return
	}
	p := r.start()
	r.eventually("the sink to notice", func() error {
		s, err := r.status(p)
		if err == nil && !strings.Contains(s.Trouble, "the topic was deleted and created again") {
			err = fmt.Errorf("it says %q", s.Trouble)
		}
		return err
	})
	if kind != "duckdb" && kind != "bleve" { // a file belongs to its process
		if after, _ := r.stored(); len(before) == 0 || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("it held\n%v\nand holds\n%v", before, after)
		}
	}
	r.rebuild()
	r.fill(100)
	r.verify()
}

// rebuild has the sink rebuilt, whatever that changes, and returns when the new generation serves.
func (r *rig) rebuild() {
	r.t.Helper()
	p := harness.Start(r.t, harness.Command{
		Path: harness.Binary(r.t), Args: []string{"-c", "millrace.yaml", "rebuild", r.name, "--accept-changes"}, Dir: r.dir, Name: r.name + "-rebuild",
	})
	if code := p.Wait(r.t, patience); code != 0 {
		for _, p := range r.procs {
			r.t.Log(p.Output())
		}
		r.t.Fatalf("the rebuild ended with %d:\n%s", code, p.Output())
	}
	r.generation = 2
}

// mustStop starts a process, which must end with status 1 and say why.
func (r *rig) mustStop(why string) {
	r.t.Helper()
	p := r.start()
	p.killed.Store(true)
	if code := p.Wait(r.t, patience); code != 1 {
		r.t.Errorf("the sink ended with %d", code)
	}
	if !strings.Contains(p.Output(), why) {
		r.t.Errorf("it did not say %q:\n%s", why, p.Output())
	}
}

// expired is a group without offsets, which costs nothing, for the position is the sink's; and then a topic whose first events are gone
// before they were applied: the sink stops and skips nothing.
func expired(t *testing.T, kind string) {
	r := newRig(t, kind, 1)
	r.fill(200)
	r.start()
	r.caughtUp()
	r.stop()
	r.eventually("the group to be deleted", func() error {
		resp, err := r.adm.DeleteGroup(t.Context(), "millrace."+r.name)
		if err == nil {
			err = resp.Err
		}
		return err
	})
	r.fill(100)
	r.start()
	r.verify()
	before, _ := r.stored()

	r.fill(100)
	gone := kadm.Offsets{}
	gone.Add(kadm.Offset{Topic: r.topic, Partition: 0, At: 350})
	if resp, err := r.adm.DeleteRecords(t.Context(), gone); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	r.mustStop("the position is 300, the topic holds 350 up to 400")
	if after, _ := r.stored(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("it held\n%v\nand holds\n%v", before, after)
	}
}

// query asks a Postgres warehouse for one value.
func query[T any](r *rig, sql string) (v T, err error) {
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		return v, err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return v, conn.QueryRow(r.t.Context(), sql).Scan(&v)
}

// waitsForBarrier returns nil when a session of this warehouse waits for a lock that a batch holds.
func (r *rig) waitsForBarrier() error {
	waits, err := query[bool](r, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`)
	if err == nil && !waits {
		err = fmt.Errorf("nobody waits")
	}
	return err
}

// wantTwice checks the column that was added.
func (r *rig) wantTwice() {
	r.t.Helper()
	n, err := query[int](r, `SELECT count(*) FROM silver.account WHERE twice IS NOT NULL`)
	if err != nil || n != 23 {
		r.t.Errorf("%d of 23 accounts have the column that was added, %v", n, err)
	}
}
