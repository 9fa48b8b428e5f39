package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// letterView is what the tests look at of `dlq list -o json`.
type letterView struct {
	Topic, Key, Class, Reason string
	Offset                    int64
	Pending                   bool
}

// settledView is what the tests look at of `dlq redrive -o json` and `dlq discard -o json`.
type settledView struct {
	Key, Outcome, Detail string
	Applied, Dropped     int64
}

// What a sink could not apply is listed, shown, redriven and discarded by somebody who knows nothing but the commands.
func TestDeadLettersAreListedShownRedrivenAndDiscarded(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	up := s.start("up")
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	s.waitStatus("the first event is applied", caughtUp(1))
	produce(t, broker, s.topic("parcels"), &kgo.Record{Key: []byte("p1"), Value: []byte("not Avro\x1b[2J")})
	produce(t, broker, s.topic("parcels"), &kgo.Record{Value: []byte("no key")})
	emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))
	s.waitStatus("the sinks went on", caughtUp(2))
	warehouse, search := s.name+"-warehouse", s.name+"-search"

	if err := s.fails(2, "dlq", "list"); !strings.Contains(err, "--sink") {
		t.Errorf("without --sink it says %q", err)
	}
	for _, sink := range []string{warehouse, search, s.name + "-cache"} {
		letters := asJSON[[]letterView](s, "dlq", "list", "--sink", sink)
		if len(letters) != 3 || letters[0].Class != "poison" || letters[0].Reason == "" {
			t.Errorf("%s lists %+v", sink, letters)
		}
	}
	keys := s.ok("dlq", "list", "--keys", "--sink", warehouse)
	if !strings.Contains(keys, "p1") || !strings.Contains(keys, "(no usable key)") || strings.Contains(keys, "\x1b") {
		t.Errorf("the keys:\n%s", keys)
	}
	letters := asJSON[[]letterView](s, "dlq", "list", "--sink", warehouse, "--class", "quarantined", "--since", "1h")
	if len(letters) != 1 || letters[0].Key != "p1" {
		t.Fatalf("behind the bad one: %+v", letters)
	}
	var place string
	for _, line := range strings.Split(s.ok("dlq", "list", "--sink", warehouse, "--class", "quarantined"), "\n") {
		if fields := strings.Fields(line); strings.Contains(line, "p1") && len(fields) > 2 {
			place = fields[2]
		}
	}
	if shown := s.ok("dlq", "show", "--sink", warehouse, place); !strings.Contains(shown, `"depot": "d1"`) || !strings.Contains(shown, "pending") {
		t.Errorf("show %s:\n%s", place, shown)
	}

	// Nothing is better yet: a redrive says so and leaves everything as it is.
	r := s.run("dlq", "redrive", "--sink", warehouse, "--topic", s.topic("parcels"), "--key", "p1")
	if r.code != 1 || !strings.Contains(r.stdout, "stuck") {
		t.Errorf("redrive: status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if err := s.fails(2, "dlq", "discard", "--sink", warehouse, "--key", "p1"); !strings.Contains(err, "--yes") {
		t.Errorf("discard without a person says %q", err)
	}
	if err := s.fails(2, "dlq", "discard", "--sink", warehouse, "--yes"); !strings.Contains(err, "--all") {
		t.Errorf("discard of nothing in particular says %q", err)
	}
	for _, sink := range []string{warehouse, search, s.name + "-cache"} {
		done := asJSON[[]settledView](s, "dlq", "discard", "--sink", sink, "--key", "p1", "--yes")
		if len(done) != 1 || done[0].Outcome != "done" || done[0].Applied != 1 || done[0].Dropped != 1 {
			t.Errorf("%s: discard says %+v", sink, done)
		}
	}
	if got := s.sql("select status, depot from silver.parcel where _key = 'p1'"); !slices.Equal(got, []string{"moving d1"}) {
		t.Errorf("the warehouse holds %q", got)
	}
	if letters := asJSON[[]letterView](s, "dlq", "list", "--sink", warehouse, "--all"); len(letters) != 3 {
		t.Errorf("with --all: %+v", letters)
	}

	// A sink that does not run: the request waits, and says so.
	if code := up.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d", code)
	}
	r = s.run("dlq", "discard", "--sink", warehouse, "--all", "--yes", "--wait", "4s")
	if r.code != 1 || !strings.Contains(r.stderr, "no process of sink "+warehouse+" runs") || !strings.Contains(r.stdout, "asked") {
		t.Errorf("with the sink stopped: status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if out := s.ok("dlq", "list", "--sink", warehouse); !strings.Contains(out, "asked") {
		t.Errorf("the list does not say that somebody asked:\n%s", out)
	}
	s.start("up")
	eventually(t, "the request is carried out", func() bool {
		return len(asJSON[[]letterView](s, "dlq", "list", "--sink", warehouse)) == 0
	})
}

// Promise 4: crash at any point. The process that discards and redrives is killed in the middle, again and again; each event has
// its effect once, in the order of its key.
func TestKillWithinADiscard(t *testing.T) {
	const events, kills = 4000, 4
	t.Parallel()
	s, broker, db := realSite(t)
	s.edit("millrace.yaml", "topics: ["+s.topic("parcels")+", "+s.topic("depots")+"]}", "topics: ["+s.topic("parcels")+", "+s.topic("depots")+"], batch_events: 20}")
	s.setUp()
	conn := db.Conn(t)
	up := s.start("up")
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	s.waitStatus("the first event is applied", caughtUp(1))
	produce(t, broker, s.topic("parcels"), &kgo.Record{Key: []byte("p1"), Value: []byte("not Avro")})
	emitMany(t, conn, "p1", events)
	s.waitStatus("all is put aside", caughtUp(1+events))
	warehouse := s.name + "-warehouse"
	s.ok("dlq", "discard", "--sink", warehouse, "--key", "p1", "--yes", "--wait", "0")
	killed := 0
	for last := 1; killed < kills; {
		n := s.bronze()
		if n == 1+events {
			break // it was done before it could be killed as often
		}
		if n == last {
			continue
		}
		up.Kill(t)
		killed++
		up = s.start("up")
		last = s.waitBronze()
	}
	t.Logf("killed %d times", killed)
	if killed == 0 {
		t.Error("it was done before it could be killed: give it more events")
	}
	eventually(t, "nothing is pending", func() bool {
		return len(asJSON[[]letterView](s, "dlq", "list", "--sink", warehouse, "--limit", "1")) == 0
	})
	emit(t, conn, "post.ParcelMoved", moved("p1", "the end"))
	s.waitStatus("the last event is applied", caughtUp(2+events))
	if got := s.sql(`select count(*), count(distinct (partition, "offset")) from bronze.events where key = 'p1'`); !slices.Equal(got, []string{fmt.Sprintf("%d %d", 2+events, 2+events)}) {
		t.Errorf("the warehouse holds %q events, and distinct ones", got)
	}
	if got := s.sql("select status, depot from silver.parcel where _key = 'p1'"); !slices.Equal(got, []string{"moving the end"}) {
		t.Errorf("the warehouse holds %q", got)
	}
}

// bronze counts the events of p1; -1 if the process cannot be asked.
func (s *site) bronze() int {
	s.t.Helper()
	r := s.run("sql", "select count(*) from bronze.events where key = 'p1'", "-o", "json")
	if r.code != 0 {
		return -1
	}
	var answer struct{ Rows [][]int }
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || len(answer.Rows) != 1 {
		s.t.Fatalf("the warehouse answers %s: %v", r.stdout, err)
	}
	return answer.Rows[0][0]
}

func (s *site) waitBronze() (n int) {
	s.t.Helper()
	eventually(s.t, "the warehouse answers", func() bool {
		n = s.bronze()
		return n >= 0
	})
	return n
}

// emitMany writes many events of one parcel in one statement.
func emitMany(t *testing.T, conn *pgx.Conn, id string, n int) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `select outbox.emit('post.ParcelMoved', null, jsonb_build_object('parcel_id', $1::text, 'depot', 'd' || i, 'moved_at', $2::text))
		from generate_series(1, $3) i`, id, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Format(time.RFC3339), n)
	if err != nil {
		t.Fatalf("emit %d events: %v", n, err)
	}
}
