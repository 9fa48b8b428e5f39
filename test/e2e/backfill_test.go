package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas/avro"
)

const (
	parcelSaved = `{"type": "record", "name": "ParcelSaved", "namespace": "post", "millrace.topic": "post.parcels", "millrace.key": "parcel_id",
  "fields": [{"name": "parcel_id", "type": "int"}, {"name": "depot", "type": "string"}, {"name": "version", "type": "long"}]}`
	parcelGone = `{"type": "record", "name": "ParcelGone", "namespace": "post", "millrace.topic": "post.parcels", "millrace.key": "parcel_id",
  "fields": [{"name": "parcel_id", "type": "int"}, {"name": "version", "type": "long"}]}`
)

// parcels is an application's table that was there before the outbox. A version is drawn by whoever has the row, so that the versions of
// a row grow in the order of commits.
const parcels = `create sequence version; create table parcel (id int primary key, depot text not null, version bigint not null default nextval('version'));
insert into parcel (id, depot) select i, 'd' || i % 9 from generate_series(1, 600) i`

// Promise 2: Order: the handover from a backfill to live events. While writers insert, change and delete rows, and write their events, the
// backfill is killed again and again. In the topic no event of a row is older than one before it, and what is left of each row when
// all events are folded is what the table holds.
func TestABackfillHandsOverToLiveEvents(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s, broker, db := realSite(t)
	s.write("schemas/ParcelSaved.avsc", s.own(parcelSaved))
	s.write("schemas/ParcelGone.avsc", s.own(parcelGone))
	s.edit("millrace.yaml", "projections:", "backfills:\n  parcels: {table: parcel, key: [id], type: post.ParcelSaved, fields: {parcel_id: id}, batch: 12}\n\nprojections:")
	s.setUp()
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), parcels); err != nil {
		t.Fatal(err)
	}
	s.ok("config", "check")
	if said := s.ok("backfill", "parcels", "--dry-run"); !strings.Contains(said, "600 rows would become events") {
		t.Errorf("%s", said)
	}
	if said := s.ok("backfill", "status"); !strings.Contains(said, "not begun") {
		t.Errorf("%s", said)
	}
	s.start("relay", "--listen", "127.0.0.1:0")

	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for n := range 4 {
		conn, random := db.Conn(t), rand.New(rand.NewPCG(seed, uint64(n+1)))
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := change(t.Context(), conn, random); err != nil {
					t.Errorf("a writer: %v", err)
					return
				}
			}
		})
	}
	kills := 0
	for range 5 {
		p := s.start("backfill", "parcels", "--rate", "120")
		select {
		case <-p.Done():
		case <-time.After(time.Duration(300+random.IntN(900)) * time.Millisecond):
			p.Kill(t)
			kills++
		}
	}
	type result struct {
		Rows, Before int64
		Finished     bool
	}
	did := asJSON[result](s, "backfill", "parcels")
	stop()
	writers.Wait()
	if !did.Finished {
		t.Fatalf("%+v", did)
	}
	if said := s.ok("backfill", "status"); !strings.Contains(said, "finished") {
		t.Errorf("%s", said)
	}
	var total int
	if err := conn.QueryRow(t.Context(), "select count(*) from outbox.event").Scan(&total); err != nil {
		t.Fatal(err)
	}
	states := foldParcels(t, readCommitted(t, broker, s.topic("parcels"), total))
	t.Logf("%d kills, %d rows, %d events", kills, did.Rows+did.Before, total)
	rows, err := conn.Query(t.Context(), "select id::text, depot || ' ' || version from parcel")
	if err != nil {
		t.Fatal(err)
	}
	var id, want string
	n := 0
	if _, err := pgx.ForEachRow(rows, []any{&id, &want}, func() error {
		if n++; states[id] != want {
			t.Errorf("row %s: %q in the table, %q folded", id, want, states[id])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n != len(states) {
		t.Errorf("%d rows in the table, %d states", n, len(states))
	}
	s.ok("backfill", "reset", "parcels")
	if said := s.fails(1, "backfill", "reset", "parcels"); !strings.Contains(said, "has not begun") {
		t.Errorf("%s", said)
	}
	if said := s.fails(2, "backfill", "nope"); !strings.Contains(said, "backfills: has no \"nope\"") {
		t.Errorf("%s", said)
	}
}

// change is one transaction of an application: the row first, then its event.
func change(ctx context.Context, conn *pgx.Conn, random *rand.Rand) error {
	id, depot := 1+random.IntN(700), fmt.Sprintf("w%d", random.IntN(1000))
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var version int64
		var err error
		kind, body := "post.ParcelSaved", "jsonb_build_object('parcel_id', $2::int, 'depot', $3::text, 'version', $4::bigint)"
		switch random.IntN(5) {
		case 0:
			if _, err = tx.Exec(ctx, "insert into parcel (id, depot) values ($1, $2) on conflict do nothing", id, depot); err == nil {
				_, err = tx.Exec(ctx, "select from parcel where id = $1 for update", id)
			}
		case 1:
			kind, body = "post.ParcelGone", "jsonb_build_object('parcel_id', $2::int, 'version', $4::bigint) - $3::text"
			err = tx.QueryRow(ctx, "delete from parcel where id = $1 returning nextval('version')", id).Scan(&version)
		default:
			_, err = tx.Exec(ctx, "select from parcel where id = $1 for update", id)
		}
		if kind == "post.ParcelSaved" && err == nil {
			err = tx.QueryRow(ctx, "update parcel set depot = $2, version = nextval('version') where id = $1 returning version", id, depot).Scan(&version)
		}
		if err == pgx.ErrNoRows {
			return nil
		}
		if err == nil {
			_, err = tx.Exec(ctx, "select outbox.emit($1, null, "+body+")", kind, id, depot, version)
		}
		if err == nil && random.IntN(2) == 0 {
			_, err = tx.Exec(ctx, "select pg_sleep(0.004)")
		}
		return err
	})
}

// foldParcels takes the events in the order of the topic, and says where one is older than another of its key before it.
func foldParcels(t *testing.T, records []*kgo.Record) map[string]string {
	t.Helper()
	codecs := map[string]*avro.Codec{}
	for name, text := range map[string]string{"post.ParcelSaved": parcelSaved, "post.ParcelGone": parcelGone} {
		c, err := avro.New(text)
		if err != nil {
			t.Fatal(err)
		}
		codecs[name] = c
	}
	states, versions := map[string]string{}, map[string]int64{}
	late, snapshots := 0, 0
	for _, r := range records {
		var kind, snapshot string
		for _, h := range r.Headers {
			switch h.Key {
			case "ce_type":
				kind = string(h.Value)
			case "millrace-snapshot":
				snapshot = string(h.Value)
			}
		}
		_, payload, err := avro.SplitFrame(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := codecs[kind].Decode(payload)
		if err != nil {
			t.Fatal(err)
		}
		key, version := string(r.Key), fields["version"].(int64)
		if version < versions[key] {
			t.Errorf("row %s: %s (snapshot %q) of version %d stands behind version %d", key, kind, snapshot, version, versions[key])
		}
		if snapshot != "" {
			if snapshots++; versions[key] > 0 {
				late++
			}
		}
		versions[key] = version
		if delete(states, key); kind == "post.ParcelSaved" {
			states[key] = fmt.Sprint(fields["depot"], " ", version)
		}
	}
	t.Logf("%d snapshots, %d of them behind a live event of their row", snapshots, late)
	if late == 0 {
		t.Error("no snapshot stands behind a live event: nothing was tried")
	}
	return states
}
