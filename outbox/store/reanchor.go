package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

// Anchor ties an outbox to a cursor that was taken from another state of its database: a restored dump, an older copy of
// the volume, a promoted standby that lacked the last commits. It is the only code that updates rows. It works on a
// connection of its own, on which it keeps a temporary table of what was published, while leader holds the relay's lock.
//
//	add what the topics hold     Add, AddHorizon, Index
//	look, change nothing         Compare, Lost
//	StampPublished               published rows are not new, whatever comes
//	the caller records that this is done
//	StampUnpublished             unpublished rows are new: later than the snapshot it returns, the next `last`
//
// Both may be cut off at any point and repeated: what a row becomes follows from its event id. The one thing that cannot be
// seen again, a verdict by the old cursor (see Verdict), is kept in the row: publishedXid.
type Anchor struct {
	conn    *pgx.Conn
	schema  string
	quoted  string
	leader  *Leader
	verdict Verdict
	batch   int
}

// Verdict judges rows whose topic no longer reaches back to them: there, a missing event may have been published and
// forgotten. Such a row counts as published if it is not younger than Before, and the old cursor has seen its transaction.
type Verdict struct {
	// Given says that the verdict was passed by an earlier, interrupted attempt, and is in the rows.
	Given bool
	// Last, Upper, Position and Before are the old cursor's; Before is when it was written.
	Last, Upper Snapshot
	Position    int64
	Before      time.Time
}

// publishedXid is what a row gets that must never come up as new: the first xid there is. Every snapshot sees it, and no
// writer can have it, for initdb uses it up.
const publishedXid = "3"

// DefaultAnchorBatch is how many rows are looked at, and updated at most, in one transaction.
const DefaultAnchorBatch = 10_000

const anchorTables = `
	set synchronous_commit = local; set statement_timeout = 0; set lock_timeout = 0; set row_security = off; set jit = off;
	set work_mem = '64MB'; set client_encoding = 'UTF8'; set client_min_messages = warning;
	set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off;
	create temp table millrace_published (event_id uuid not null, topic text not null, partition int not null,
		"offset" bigint not null, key bytea, seq bigint not null, at timestamptz not null, held boolean not null,
		row bigint not null, own boolean not null);
	create temp table millrace_horizon (topic text not null, before timestamptz not null)`

// NewAnchor checks the role's privileges and prepares the connection, which must be a direct one and for this alone.
// leader's session must hold the lock for as long as the Anchor is used. batch is how many rows it looks at in one
// transaction, 0 for DefaultAnchorBatch. Its refusals are *SetupErrors.
func NewAnchor(ctx context.Context, conn *pgx.Conn, schema string, leader *Leader, v Verdict, batch int) (*Anchor, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	a := &Anchor{conn: conn, schema: cmp.Or(schema, dbtx.DefaultSchema), quoted: quoted, leader: leader, verdict: v, batch: cmp.Or(batch, DefaultAnchorBatch)}
	if err := a.checkPrivileges(ctx); err != nil {
		return nil, err
	}
	if _, err := conn.PgConn().Exec(ctx, anchorTables).ReadAll(); err != nil {
		return nil, fmt.Errorf("make a temporary table for what was published: %w", err)
	}
	return a, nil
}

func (a *Anchor) checkPrivileges(ctx context.Context) error {
	var role string
	var missing []string
	err := a.conn.QueryRow(ctx, `
		select current_user, array_agg(p.name order by p.name) filter (where not coalesce(p.held, false)) from (values
			('TEMPORARY on database ' || quote_ident(current_database()), has_database_privilege(current_database(), 'temporary')),
			('SELECT on event', has_table_privilege($1 || '.event', 'select')),
			('UPDATE on event', has_table_privilege($1 || '.event', 'update')),
			('USAGE on event_id_seq', has_sequence_privilege($1 || '.event_id_seq', 'usage')),
			('SELECT on event_id_seq', has_sequence_privilege($1 || '.event_id_seq', 'select')),
			('UPDATE on event_id_seq', has_sequence_privilege($1 || '.event_id_seq', 'update')),
			('UPDATE on ring', has_table_privilege($1 || '.ring', 'update')),
			('UPDATE on leaf', has_table_privilege($1 || '.leaf', 'update'))) p(name, held)`, a.quoted).
		Scan(&role, &missing)
	if err != nil {
		return fmt.Errorf("ask for privileges on outbox %q: %w", a.schema, err)
	}
	if len(missing) > 0 {
		return unfit(ErrPrivilege, "connect as the owner of the tables for this once, or grant it",
			"role %s lacks %s in schema %q", role, strings.Join(missing, ", "), a.schema)
	}
	return nil
}

// Retained says what the table holds.
type Retained struct {
	// Earliest is the earliest time at which one of them occurred; zero if there are none. Dated says that writers dated some of them ahead of the
	// clock or before 1970, so that a record may be older than its row says.
	Earliest time.Time
	Dated    bool
}

// Retained looks at the whole table.
func (a *Anchor) Retained(ctx context.Context) (Retained, error) {
	var r Retained
	var earliest *time.Time
	err := a.conn.QueryRow(ctx, `select min(occurred_at) filter (where isfinite(occurred_at)), coalesce(bool_or(not isfinite(occurred_at)
			or occurred_at < '1970-01-01Z' or occurred_at > clock_timestamp() + interval '10 minutes'), false) from `+a.quoted+`.event`).
		Scan(&earliest, &r.Dated)
	if err != nil {
		return Retained{}, fmt.Errorf("look at the rows of outbox %q: %w", a.schema, err)
	}
	if earliest != nil {
		r.Earliest = earliest.UTC()
	}
	return r, nil
}

// Published is an event that Kafka holds.
type Published struct {
	EventID [16]byte
	// Topic, Partition and Offset say where the record is; for a held event Topic is the one it is meant for.
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	// Seq is the record's version; 0 for a held event.
	Seq int64
	// At is when the event occurred.
	At time.Time
	// Held says that it is parked, or was and has been dealt with; Row is then its id in the table, 0 if that is not known.
	Held bool
	Row  int64
	// Own says that it is certain to be this outbox's: one that is missing in the table was lost.
	Own bool
}

var publishedColumns = []string{"event_id", "topic", "partition", "offset", "key", "seq", "at", "held", "row", "own"}

// Add takes events into the temporary table.
func (a *Anchor) Add(ctx context.Context, events []Published) error {
	_, err := a.conn.CopyFrom(ctx, pgx.Identifier{"pg_temp", "millrace_published"}, publishedColumns,
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			return []any{e.EventID, text(e.Topic), e.Partition, e.Offset, e.Key, e.Seq, e.At, e.Held, e.Row, e.Own}, nil
		}))
	if err != nil {
		return fmt.Errorf("copy what was published to a temporary table: %w", err)
	}
	return nil
}

// text is what a column of text can hold.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// AddHorizon says that a topic may have forgotten events that occurred before a time; a zero time stands for all of them.
func (a *Anchor) AddHorizon(ctx context.Context, topic string, before time.Time) error {
	_, err := a.conn.Exec(ctx, `insert into pg_temp.millrace_horizon values ($1, coalesce($2, 'infinity'::timestamptz))`, topic, orNullTime(before))
	return wrapped(err, "note how far topic %s reaches back", topic)
}

func wrapped(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// Index is called once after the last Add.
func (a *Anchor) Index(ctx context.Context) error {
	_, err := a.conn.PgConn().Exec(ctx, `create index on pg_temp.millrace_published (event_id);
		analyze pg_temp.millrace_published; analyze pg_temp.millrace_horizon`).ReadAll()
	return wrapped(err, "index what was published")
}

// foundSQL says that Kafka holds the row's event; judgedSQL that the verdict is that it did. $1 is how the rows of the
// latter are told: by the xid they were given (true) or by the old cursor.
const (
	foundSQL  = `exists (select from pg_temp.millrace_published p where p.event_id = e.event_id)`
	judgedSQL = `(e.xid = '` + publishedXid + `'::xid8 or (not $1::boolean
		and exists (select from pg_temp.millrace_horizon h where h.topic = e.topic and e.occurred_at < h.before)
		and e.occurred_at <= $2::timestamptz
		and (pg_visible_in_snapshot(e.xid, (select $3::text::pg_snapshot))
			or e.id <= $5::bigint and pg_visible_in_snapshot(e.xid, (select $4::text::pg_snapshot)))))`
)

// verdictArgs are $1 to $5 of judgedSQL.
func (a *Anchor) verdictArgs(more ...any) []any {
	v := a.verdict
	return append([]any{v.Given, v.Before, orNothing(v.Last), orNothing(v.Upper), v.Position}, more...)
}

// orNothing is a snapshot that has seen nothing where Postgres has no text for the zero one.
func orNothing(s Snapshot) string { return cmp.Or(s.String(), "1:1:") }

// Comparison is the table held against what Kafka holds.
type Comparison struct {
	// Published rows are in the topics, or parked. Judged ones are not found there, but were published as far as can be told:
	// their topic no longer reaches back to them. All others are Unpublished.
	Published, Judged, Unpublished int64
	// Lost counts the events that Kafka holds and the table does not, and that it should hold: see Lost.
	Lost int64
	// LastRow and LastEvent are those of the highest id that is published; zero if none is.
	LastRow   int64
	LastEvent [16]byte
	// Comparable says that there is a published row to begin from: see Lost.
	Comparable bool
}

// Compare counts. A zero since is explained at Lost.
func (a *Anchor) Compare(ctx context.Context, since time.Time) (Comparison, error) {
	var c Comparison
	err := a.conn.QueryRow(ctx, a.in(`
		with row as (select e.id, f.event_id is not null as found, `+judgedSQL+` as judged from {{schema}}.event e
			left join (select distinct event_id from pg_temp.millrace_published) f on f.event_id = e.event_id)
		select count(*) filter (where found), count(*) filter (where judged and not found),
			count(*) filter (where not found and not judged), coalesce(max(id) filter (where found or judged), 0) from row`),
		a.verdictArgs()...).Scan(&c.Published, &c.Judged, &c.Unpublished, &c.LastRow)
	if err != nil {
		return Comparison{}, fmt.Errorf("compare the table with the topics: %w", err)
	}
	if c.LastRow > 0 {
		err := a.conn.QueryRow(ctx, a.in(`select event_id from {{schema}}.event where id = $1`), c.LastRow).Scan(&c.LastEvent)
		if err != nil {
			return Comparison{}, fmt.Errorf("look for the last published row: %w", err)
		}
	}
	var from *int64
	if err := a.conn.QueryRow(ctx, a.in(beginningQuery)).Scan(&from); err != nil {
		return Comparison{}, fmt.Errorf("look for the beginning of what is retained: %w", err)
	}
	c.Comparable = from != nil || !since.IsZero()
	err = a.conn.QueryRow(ctx, a.in(`select count(*) from (`+lostQuery+`) lost`), orNullTime(since)).Scan(&c.Lost)
	return c, wrapped(err, "count the lost events")
}

// beginningQuery is the lowest seq of a retained event: what was published before may have been taken by retention.
const beginningQuery = `select min(p.seq) from pg_temp.millrace_published p join {{schema}}.event e on e.event_id = p.event_id where p.seq > 0`

// lostQuery is the anti-join of what is published with the table.
//
//	$1 since, or null
const lostQuery = `
	select p.event_id, p.topic, p.partition, p."offset", p.key, p.seq, p.at, p.held, p.row from pg_temp.millrace_published p
	where p.own and not exists (select from {{schema}}.event e where e.event_id = p.event_id)
		and case when $1::timestamptz is not null then p.at >= $1::timestamptz
			when p.held then p.row >= (select min(e.id) from {{schema}}.event e)
			else p.seq >= (` + beginningQuery + `) end`

// Lost calls f for each event that Kafka holds and the table does not, topic by topic, in the order of their offsets, held
// ones last. Rows that retention took cannot be told from lost ones; therefore, with a zero since, what was published
// before the first of the retained rows is left out, and with another one what occurred before it.
func (a *Anchor) Lost(ctx context.Context, since time.Time, f func(Published) error) error {
	rows, err := a.conn.Query(ctx, a.in(lostQuery+` order by p.held, p.topic, p.partition, p."offset"`), orNullTime(since))
	if err != nil {
		return fmt.Errorf("look for lost events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		p := Published{Own: true}
		if err := rows.Scan(&p.EventID, &p.Topic, &p.Partition, &p.Offset, &p.Key, &p.Seq, &p.At, &p.Held, &p.Row); err != nil {
			return fmt.Errorf("look for lost events: %w", err)
		}
		p.At = p.At.UTC()
		if err := f(p); err != nil {
			return err
		}
	}
	return wrapped(rows.Err(), "look for lost events")
}

func (a *Anchor) in(query string) string { return strings.ReplaceAll(query, "{{schema}}", a.quoted) }

// ErrLockLost is what the methods that change something return when leader's session no longer holds the lock.
var ErrLockLost = errors.New("the relay lock was lost")

// write runs f in a transaction that holds only while the lock is held.
func (a *Anchor) write(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, a.conn, func(tx pgx.Tx) error {
		var held bool
		err := tx.QueryRow(ctx, `select exists (select from pg_locks where locktype = 'advisory' and granted and pid = $1::int
			and database = (select oid from pg_database where datname = current_database())
			and classid::bigint = $2::bigint and objid::bigint = hashtext($3::text)::bigint & 4294967295)`,
			int64(a.leader.pid), leaderClass, a.schema).Scan(&held)
		if err != nil {
			return fmt.Errorf("look for the relay lock: %w", err)
		}
		if !held {
			return ErrLockLost
		}
		return f(tx)
	})
}
