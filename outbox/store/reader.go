package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/schemas"
)

// Reader finds and reads new events over one connection, which it must have for itself: it forces the plans of that
// session. The connection must be a direct one, not one of a transaction pooler. A Reader is not safe for concurrent
// use. After an error for which NeedsOperator is false, close the connection and make a new Reader on a new one.
type Reader struct {
	conn    *pgx.Conn
	options readerOptions
	queries queries
	decoder decoder
	leaves  leaves
	// weight is how many bytes an event of the last page had; 0 where that says nothing about the next.
	weight int
}

// ReaderOption is an option of NewReader.
type ReaderOption interface{ applyReader(*readerOptions) }

type readerOptions struct {
	pageBytes    int
	allowNoFsync bool
}

type readerOption func(*readerOptions)

func (f readerOption) applyReader(o *readerOptions) { f(o) }

// DefaultPageBytes is the size at which a page is cut: 8 MiB.
const DefaultPageBytes = 8 << 20

// PageBytes limits a page's memory: a page ends with the event that brings it to n bytes. Default DefaultPageBytes;
// so is 0.
func PageBytes(n int) ReaderOption {
	return readerOption(func(o *readerOptions) { o.pageBytes = n })
}

// AllowFsyncOff lets NewReader accept a server with fsync=off, for demonstrations: there, a power cut may lose or
// repeat events.
func AllowFsyncOff() ReaderOption {
	return readerOption(func(o *readerOptions) { o.allowNoFsync = true })
}

// NewReader prepares the connection and checks the server and the outbox in the named database schema ("" is
// "outbox"). What it refuses is a *SetupError, or a *SourceError for a standby.
func NewReader(ctx context.Context, conn *pgx.Conn, schema string, options ...ReaderOption) (*Reader, error) {
	r := &Reader{conn: conn}
	for _, o := range options {
		o.applyReader(&r.options)
	}
	if r.options.pageBytes <= 0 {
		r.options.pageBytes = DefaultPageBytes
	}
	if conn.PgConn().TxStatus() != 'I' {
		return nil, dbtx.ErrInTransaction // its snapshot might be an old one, and its end could undo the settings
	}
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	r.queries = newQueries(quoted)
	if err := checkServer(ctx, conn, r.options.allowNoFsync); err != nil {
		return nil, err
	}
	source, err := r.Source(ctx)
	if err != nil {
		return nil, err
	}
	if err := Check(Source{}, source); err != nil {
		return nil, err
	}
	if err := checkOutbox(ctx, conn, cmp.Or(schema, dbtx.DefaultSchema)); err != nil {
		return nil, err
	}
	if _, err := conn.PgConn().Exec(ctx, forcedPlans).ReadAll(); err != nil {
		return nil, fmt.Errorf("force the plans of polls: %w", err)
	}
	return r, nil
}

// Source asks the database about itself without opening a window: for the comparison with the cursor at start.
func (r *Reader) Source(ctx context.Context) (Source, error) {
	h, err := r.askHead(ctx)
	if err != nil {
		return Source{}, fmt.Errorf("ask the database about itself: %w", err)
	}
	return h.source, nil
}

// Open opens the window from last to now and reads its first page, of at most limit events. Upper is taken in the
// statement that reads the page; if the window is one page, that statement is all. An idle outbox gives an empty page
// with More false. A database that is a standby, or has not come as far as last, is a *SourceError.
func (r *Reader) Open(ctx context.Context, last Snapshot, limit int) (*Window, Page, error) {
	limit = max(limit, 1)
	h, page, live, err := r.openLive(ctx, last, limit)
	if err != nil {
		return nil, Page{}, fmt.Errorf("open a window: %w", err)
	}
	w, err := newWindow(last, h.upper, h)
	if err != nil {
		return nil, Page{}, err
	}
	w.live = live
	if h.fits && len(page.Events) <= limit {
		return w, page, nil
	}
	page.Release()
	page, err = r.Page(ctx, w, 0, limit)
	return w, page, err
}

// readOpen reads the answer of openQuery. If it holds more than the statement reckoned, compressed JSON for example,
// it is read again page by page.
func (r *Reader) readOpen(rows pgx.Rows) (head, Page, error) {
	defer rows.Close()
	var h head
	b := newPageBuilder(&r.decoder)
	for rows.Next() {
		raw := rows.RawValues()
		var err error
		switch {
		case raw[1] == nil:
			h, err = parseHead(raw[9])
		case b.bytes < 2*r.options.pageBytes:
			err = b.add(raw)
		default:
			h.fits = false
		}
		if err != nil {
			b.arena.recycle()
			return head{}, Page{}, err
		}
	}
	if err := rows.Err(); err != nil {
		b.arena.recycle()
		return head{}, Page{}, err
	}
	page := b.page()
	slices.SortFunc(page.Events, func(x, y Event) int { return cmp.Compare(x.ID, y.ID) })
	return h, page, nil
}

// Reopen opens the window (last, upper] again after a restart: Page gives the same events in the same order. The
// flush gate is to be passed anew. A database that has not come as far as upper is a *SourceError.
func (r *Reader) Reopen(ctx context.Context, last, upper Snapshot) (*Window, error) {
	h, err := r.askHead(ctx)
	if err != nil {
		return nil, fmt.Errorf("reopen a window: %w", err)
	}
	w, err := newWindow(last, upper, h)
	if err != nil {
		return nil, err
	}
	if err := r.loadLeaves(ctx); err != nil {
		return nil, fmt.Errorf("reopen a window: %w", err)
	}
	w.live = r.leaves.live(last)
	return w, nil
}

// Page reads the next events of the window: at most limit of them, with ids above after (0 for the first page),
// strictly by id.
func (r *Reader) Page(ctx context.Context, w *Window, after int64, limit int) (Page, error) {
	limit = max(limit, 1)
	if !w.bounded {
		if err := r.bound(ctx, w); err != nil {
			return Page{}, fmt.Errorf("find the ends of the window: %w", err)
		}
	}
	if after >= w.end {
		return Page{}, nil
	}
	rows, err := r.queryPage(ctx, w, after, limit)
	if err != nil {
		return Page{}, fmt.Errorf("read the page after %d: %w", after, err)
	}
	page, err := r.decoder.page(rows, limit, 2*r.options.pageBytes, r.cancel)
	if err != nil {
		return Page{}, fmt.Errorf("read the page after %d: %w", after, err)
	}
	r.weight = page.weight(2 * r.options.pageBytes)
	id, ok := page.LastID()
	if !ok {
		return Page{}, fmt.Errorf("read the page after %d: the window reaches to %d: %w", after, w.end, ErrVanished)
	}
	page.More = id < w.end
	return page, nil
}

func (r *Reader) queryPage(ctx context.Context, w *Window, after int64, limit int) (pgx.Rows, error) {
	from := max(after, w.lowest-1)
	late := w.lateAfter(after)
	if len(late) == 0 && r.weight > 0 && (from+1)>>32 == w.highest>>32 {
		limit = max(1, min(limit, r.options.pageBytes/r.weight))
		return r.query(ctx, r.queries.leaf[LeafOf(w.highest)], from, w.highest, w.Last.Xmax, w.Upper.String(), limit)
	}
	args := append([]any{from, w.highest, w.Last.Xmax, w.Upper.String(), limit + 1, r.options.pageBytes}, w.live.args()...)
	if len(late) == 0 {
		return r.query(ctx, r.queries.page, args...)
	}
	return r.query(ctx, r.queries.pageLate, append(args, late, after)...)
}

// cancel ends the statement under way. A cancel that comes too late finds the session waiting for a statement, and is
// ignored.
func (r *Reader) cancel() {
	ctx, done := context.WithTimeout(context.Background(), cancelTimeout)
	defer done()
	_ = r.conn.PgConn().CancelRequest(ctx) // if it fails the rows come, and are thrown away
}

// cancelTimeout bounds the request to cancel a statement.
const cancelTimeout = time.Second

// bound asks where the rows of the window lie. It runs after Upper was taken: asked before, a row with a lower id
// could become visible in between.
func (r *Reader) bound(ctx context.Context, w *Window) error {
	late := slices.DeleteFunc(slices.Clone(w.Last.Xip), func(xid uint64) bool { return !w.Upper.Sees(xid) })
	args := append([]any{w.Last.Xmax, w.Upper.Xmax, w.Upper.String(), xids(late)}, w.live.args()...)
	rows, err := r.query(ctx, r.queries.bounds, args...)
	if err != nil {
		return err
	}
	var xid *uint64
	var lowest, highest int64
	_, err = pgx.ForEachRow(rows, []any{&xid, &lowest, &highest}, func() error {
		w.widen(xid, lowest, highest)
		return nil
	})
	w.bounded = err == nil
	return err
}

// Flushed reports whether Postgres has flushed its WAL up to w.FlushLSN, and opens the window's gate if it has. A
// standby is a *SourceError.
func (r *Reader) Flushed(ctx context.Context, w *Window) (bool, error) {
	if w.flushed {
		return true, nil
	}
	var recovery, flushed bool
	err := r.conn.QueryRow(ctx, r.queries.flushed, FormatLSN(w.FlushLSN)).Scan(&recovery, &flushed)
	if err != nil {
		return false, fmt.Errorf("ask how far the WAL is flushed: %w", err)
	}
	if recovery {
		now := w.Source
		now.InRecovery = true
		return false, Check(w.Source, now)
	}
	w.flushed = flushed
	return flushed, nil
}

// ForceFlush makes Postgres flush its WAL now, by a commit of its own that leaves nothing in any table. Call it when
// Flushed says no for a window that has events, then ask Flushed again.
func (r *Reader) ForceFlush(ctx context.Context) error {
	if _, err := r.conn.PgConn().Exec(ctx, emitFlush).ReadAll(); err != nil {
		return fmt.Errorf("force a flush of the WAL: %w", err)
	}
	return nil
}

// VerifyRow checks that the last published row is still the one that the cursor knows. ErrDiverged (in a
// *SourceError): another event has the id, or the row is gone though lower ids of its leaf are there. A row that
// retention took, with its leaf, is no error.
func (r *Reader) VerifyRow(ctx context.Context, id int64, eventID [16]byte) error {
	var found *[16]byte
	var lower bool
	if err := r.conn.QueryRow(ctx, r.queries.verify, id).Scan(&found, &lower); err != nil {
		return fmt.Errorf("look for the last published row, id %d: %w", id, err)
	}
	switch {
	case found != nil && *found != eventID:
		return diverged("id %d is event %s, the cursor has published %s", id, uuidText(*found), uuidText(eventID))
	case found == nil && lower:
		return diverged("id %d, event %s, is not there", id, uuidText(eventID))
	}
	return nil
}

// Schema reads the schema that an event was written with; ErrNoSchema if the outbox does not hold it.
func (r *Reader) Schema(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error) {
	var text string
	err := r.conn.QueryRow(ctx, r.queries.schema, fp[:]).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("schema %s: %w", fp, ErrNoSchema)
	}
	if err != nil {
		return nil, fmt.Errorf("read schema %s: %w", fp, err)
	}
	schema, err := schemas.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("schema %s in the outbox: %w", fp, err)
	}
	return schema, nil
}

// query runs a prepared statement and asks for binary results, whatever the connection's defaults are.
func (r *Reader) query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	options := []any{pgx.QueryExecModeCacheStatement, pgx.QueryResultFormats{pgx.BinaryFormatCode}}
	return r.conn.Query(ctx, sql, append(options, args...)...)
}

// xids gives an empty list for none: NULL would be another thing.
func xids(list []uint64) []uint64 {
	if list == nil {
		return []uint64{}
	}
	return list
}
