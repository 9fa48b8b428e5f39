package failover

import (
	"strconv"
	"testing"

	"github.com/millrace/millrace/outbox/store"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// Restored from a dump into another cluster, while the relay was behind: some rows of the dump were published before it was taken,
// some after, some never. The xids in it mean nothing there.
func TestDumpRestoredIntoAnotherCluster(t *testing.T) {
	t.Parallel()
	old := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	burn(t, old.DSN, 3000) // so that the dump's xids lie ahead of the new cluster's
	db := old.Database(t)
	w := newWorld(t, db.DSN)
	w.write(80)
	w.parkOne("held")
	w.publishAll()
	w.write(160)
	dump := old.Dump(t, db.DSN)
	dumped := w.events()
	w.publishSome()
	published := len(w.committed(w.topic))

	fresh := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	target := fresh.Database(t)
	fresh.RestoreDump(t, target.DSN, dump)
	w.dsn = target.DSN
	w.open()
	w.writer()
	w.write(20) // before anybody looks
	if int64(published) >= dumped-1 {
		t.Fatalf("%d of %d dumped events are published: the relay was not behind", published, dumped)
	}
	w.relay().stopsWith(store.ErrOtherSystem)

	w.dryRun(0, 0)
	stop := w.background()
	found, lost := w.reanchor(relay.ReAnchorOptions{BatchRows: 50})
	stop()
	w.checkLost(lost, 0, 0)
	if found.Restamped == 0 || found.Unpublished == 0 {
		t.Errorf("nothing was restamped or is to be published: %+v", found)
	}
	w.publishAll()
	w.check(lost, nil)

	// The counter passes the xids of the dump: were they still there, they would come up as new.
	burn(t, target.DSN, 6000)
	w.write(20)
	w.publishAll()
	w.check(lost, nil)
}

// burn uses up transaction ids.
func burn(t *testing.T, dsn string, n int) {
	t.Helper()
	w := &world{t: t, dsn: dsn}
	w.open()
	w.exec(`create table if not exists burnt (n int)`)
	w.exec(`do $$ begin for i in 1..` + strconv.Itoa(n) + ` loop
		begin insert into burnt values (i); exception when division_by_zero then null; end; end loop; end $$`)
	w.exec(`truncate burnt`)
	w.pool.Close()
}

// dryRun checks that a dry run lists what was lost and changes nothing.
func (w *world) dryRun(lost, parked int) relay.Anchorage {
	w.t.Helper()
	stamps, cursors := w.stamps(), len(w.committed("__millrace."+w.name+".cursor"))
	found, listed := w.reanchor(relay.ReAnchorOptions{DryRun: true})
	w.checkLost(listed, lost, parked)
	if now := w.stamps(); now != stamps || found.Restamped != 0 || found.T != 0 {
		w.t.Errorf("a dry run changed rows: %+v", found)
	}
	if now := len(w.committed("__millrace." + w.name + ".cursor")); now != cursors {
		w.t.Errorf("a dry run wrote %d cursors", now-cursors)
	}
	return found
}

// An older copy of the volume: the same system, the same timeline, ids and xids given out again.
func TestOlderVolumeRestored(t *testing.T) {
	for _, d := range []relay.Delivery{relay.ExactlyOnce, relay.AtLeastOnce} {
		t.Run(string(d), func(t *testing.T) { olderVolume(t, d) })
	}
}

func olderVolume(t *testing.T, delivery relay.Delivery) {
	t.Parallel()
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: settings})
	w := newWorld(t, server.DSN)
	w.delivery = delivery
	w.write(80)
	w.publishAll()
	w.write(40) // in the copy, published after it was made
	server.Stop(t)
	volume := server.CopyVolume(t)
	server.Start(t)
	w.open()
	kept := w.events()
	w.exec(`select count(nextval('outbox.event_id_seq')) from generate_series(1, 20000)`) // further than the writers get by themselves
	w.write(60)
	w.parkOne("held")
	w.publishAll()
	lost := int(w.events() - kept - 1)
	highest := w.highest()

	r := w.relay() // at work when it happens
	server.Stop(t)
	server.RestoreVolume(t, volume)
	server.Start(t)
	w.open()
	r.stopsWith(store.ErrRestored)

	w.write(20)
	if found := w.dryRun(lost, 1); found.SequenceBehind == 0 {
		t.Error("the sequence was not behind: ids of lost events would not have been given again")
	}
	stop := w.background()
	_, listed := w.reanchor(relay.ReAnchorOptions{})
	stop()
	w.checkLost(listed, lost, 1)
	w.write(20)
	if now := w.highest(); now <= highest {
		t.Errorf("ids are given again: the highest was %d, it is %d", highest, now)
	}
	w.publishAll()
	w.check(listed, nil)
	if _, err := relay.ReAnchor(t.Context(), w.config(), relay.ReAnchorOptions{}); err == nil {
		t.Error("a database that is in order was re-anchored again")
	}
}

// highest is the highest id in the table.
func (w *world) highest() (id int64) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), `select max(id) from outbox.event`).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id
}
