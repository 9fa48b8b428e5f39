package store

import (
	"context"
	"errors"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/test/harness"
)

// NewReader refuses what polls could not read fast, completely and in order, and says what to do.
func TestNewReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name, spoil string
		want        error
		says        string
	}{
		{"no outbox", `drop schema outbox cascade`, ErrNotMigrated, "millrace migrate up"},
		{"half an outbox", `drop table outbox.relay`, ErrNotMigrated, "no relay"},
		{"sequence with a cache", `alter sequence outbox.event_id_seq cache 32`, ErrSequence, "cache 32"},
		{"sequence with strides", `alter sequence outbox.event_id_seq increment -1`, ErrSequence, "increment -1"},
		{"no index on (xid, id)", `drop index outbox.event_xid_id_idx`, ErrIndex, "event(xid, id)"},
		{"no index on (id)", `drop index outbox.event_id_idx`, ErrIndex, "event(id)"},
		{"partial index", `drop index outbox.event_id_idx; create index on outbox.event (id) where id > 7`, ErrIndex, "event(id)"},
		{"index on the parent only", `drop index outbox.event_id_idx; create index on only outbox.event (id)`, ErrIndex, "event(id)"},
		{"unlogged leaf", `alter table outbox.event_3 set unlogged`, ErrUnlogged, "event_3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, conn := newOutbox(t)
			run(t, conn, c.spoil)
			_, err := NewReader(t.Context(), db.Conn(t), "")
			refused(t, err, c.want, c.says)
		})
	}
}

func refused(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !NeedsOperator(err) {
		t.Fatalf("got %v, want %v", err, want)
	}
	var setup *SetupError
	if errors.As(err, &setup) && (setup.Remedy == "" || setup.Detail == "") {
		t.Errorf("not a whole SetupError: %#v", setup)
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
}

// run executes several statements at once.
func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// The relay's role needs no more than the migration says, and what it lacks is named.
func TestPrivilegesOfTheRelay(t *testing.T) {
	db, conn := newOutbox(t)
	role := "relay_" + db.Name
	run(t, conn, `create role `+role+`; grant usage on schema outbox to `+role+`;
		grant select on all tables in schema outbox to `+role+`; grant insert, update on outbox.relay to `+role)
	t.Cleanup(func() {
		_, err := conn.PgConn().Exec(context.Background(), `drop owned by `+role+`; drop role `+role).ReadAll()
		if err != nil {
			t.Error(err)
		}
	})
	as := func() *pgx.Conn {
		c := db.Conn(t)
		run(t, c, `set role `+role)
		return c
	}
	fill(t, conn, "k", 3)
	r, err := NewReader(t.Context(), as(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := open(t, r, Snapshot{}, 2); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
	if err := r.ForceFlush(t.Context()); err != nil {
		t.Error(err)
	}
	if err := MarkStarted(t.Context(), as(), "", First{"c", "t"}); err != nil {
		t.Error(err)
	}
	if _, ok, err := TryLead(t.Context(), as(), ""); err != nil || !ok {
		t.Errorf("lead: %t, %v", ok, err)
	}
	if _, _, err := Backlog(t.Context(), as(), "", nil, nil, 0); err != nil {
		t.Error(err)
	}
	run(t, conn, `revoke select on outbox.event from `+role+`; revoke insert on outbox.relay from `+role)
	_, err = NewReader(t.Context(), as(), "")
	refused(t, err, ErrPrivilege, "INSERT on relay, SELECT on event")
	run(t, conn, `revoke usage on schema outbox from `+role)
	_, err = NewReader(t.Context(), as(), "")
	refused(t, err, ErrPrivilege, "USAGE on schema outbox")
}

// Any name of a database schema will do.
func TestSchemaWithAnOddName(t *testing.T) {
	const name = `Ou"t box`
	db := harness.Postgres(t)
	conn := db.Conn(t)
	if _, err := migrate.Up(t.Context(), conn, migrate.WithSchema(name)); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into "Ou""t box".event (topic, key, type, schema_fp, payload) values ('t', 'k', 'x', '\x00000000000000000000000000000000', '')`)
	r, err := NewReader(t.Context(), db.Conn(t), name)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := open(t, r, Snapshot{}, 2); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
	if n, _, err := Backlog(t.Context(), conn, name, nil, nil, 0); err != nil || n != 1 {
		t.Errorf("backlog of %d: %v", n, err)
	}
}

func TestServerWithoutFsync(t *testing.T) {
	server := harness.PostgresServer(t, harness.PostgresOptions{Settings: map[string]string{"fsync": "off"}})
	db := server.Database(t)
	if _, err := migrate.Up(t.Context(), db.Conn(t)); err != nil {
		t.Fatal(err)
	}
	_, err := NewReader(t.Context(), db.Conn(t), "")
	refused(t, err, ErrFsyncOff, "set fsync = on")
	if _, err := NewReader(t.Context(), db.Conn(t), "", AllowFsyncOff()); err != nil {
		t.Errorf("a demonstration may do without: %v", err)
	}
}

// In every poll: not a standby, the same timeline, and not an older copy of the same volume. All staged on one
// server.
func TestSourceThatChanged(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time: make test runs it")
	}
	ctx := t.Context()
	server := harness.PostgresServer(t, harness.PostgresOptions{})
	setup, err := pgx.Connect(ctx, server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrate.Up(ctx, setup); err != nil {
		t.Fatal(err)
	}
	fill(t, setup, "k", 1)
	setup.Close(ctx)
	reader := func() *Reader {
		conn, err := pgx.Connect(ctx, server.DSN)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		r, err := NewReader(ctx, conn, "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	poll := func(r *Reader, last Snapshot) *Window {
		t.Helper()
		w, _, err := r.Open(ctx, last, 10)
		if err != nil {
			t.Fatal(err)
		}
		flush(t, r, w)
		return w
	}

	server.Stop(t)
	volume := filepath.Join(filepath.Dir(server.DataDir), "volume")
	copyVolume(t, server.DataDir, volume)
	server.Start(t)
	r := reader()
	for range 50 {
		fill(t, r.conn, "k", 1)
	}
	cursor := poll(r, Snapshot{})
	if cursor.Source.SystemID == "" || cursor.Source.Timeline != 1 || cursor.Source.LSN == 0 || cursor.Source.Xmax != cursor.Upper.Xmax {
		t.Fatalf("the database says of itself: %+v", cursor.Source)
	}

	// Restarted in order, and after a crash: nothing to complain of.
	server.Restart(t)
	r = reader()
	if err := Check(cursor.Source, poll(r, cursor.Upper).Source); err != nil {
		t.Error(err)
	}
	server.Kill(t)
	server.Start(t)
	r = reader()
	if err := Check(cursor.Source, poll(r, cursor.Upper).Source); err != nil {
		t.Error(err)
	}
	cursor = poll(r, cursor.Upper)

	// A standby, met at start.
	server.Stop(t)
	signal := filepath.Join(server.DataDir, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	server.Start(t)
	standby, err := pgx.Connect(ctx, server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer standby.Close(context.Background())
	_, err = NewReader(ctx, standby, "")
	refused(t, err, ErrStandby, "primary")

	// A standby, met in a poll: the Reader is older than the standby would let it be, as after a switch of the
	// address it connects to.
	behind := &Reader{conn: standby, queries: newQueries("outbox"), options: readerOptions{pageBytes: DefaultPageBytes}}
	_, _, err = behind.Open(ctx, cursor.Upper, 10)
	refused(t, err, ErrStandby, "primary")
	_, err = behind.Reopen(ctx, cursor.Last, cursor.Upper)
	refused(t, err, ErrStandby, "primary")
	_, err = behind.Flushed(ctx, &Window{Source: cursor.Source, FlushLSN: 1})
	refused(t, err, ErrStandby, "primary")

	// Promoted.
	var promoted bool
	if err := standby.QueryRow(ctx, `select pg_promote(true, 60)`).Scan(&promoted); err != nil || !promoted {
		t.Fatalf("promote: %t, %v", promoted, err)
	}
	w := poll(reader(), cursor.Upper)
	refused(t, Check(cursor.Source, w.Source), ErrOtherTimeline, "timeline 2, the cursor has 1")

	// The volume of before: same system, same timeline, an earlier time. Its snapshot is below the cursor's.
	server.Stop(t)
	if err := os.RemoveAll(server.DataDir); err != nil {
		t.Fatal(err)
	}
	copyVolume(t, volume, server.DataDir)
	server.Start(t)
	r = reader()
	_, _, err = r.Open(ctx, cursor.Upper, 10)
	refused(t, err, ErrRestored, "the cursor has")
	_, err = r.Reopen(ctx, cursor.Upper, cursor.Upper)
	refused(t, err, ErrRestored, "the cursor has")
	source, err := r.Source(ctx)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, Check(cursor.Source, source), ErrRestored, "WAL position")
}

func copyVolume(t *testing.T, from, to string) {
	t.Helper()
	if out, err := osexec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy the volume: %v\n%s", err, out)
	}
}
