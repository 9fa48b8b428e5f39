package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/schemas"
)

// Reader finds and reads new events over one connection, which it must have for itself: it sets the plans that polls
// are forced to on it. It is not safe for concurrent use. After any error that is not of this package, close the
// connection and make a new Reader.
type Reader struct {
	conn *pgx.Conn
	opts readerOptions
}

// ReaderOption is an option of NewReader.
type ReaderOption interface{ applyReader(*readerOptions) }

type readerOptions struct {
	pageBytes    int
	allowNoFsync bool
}

type readerOption func(*readerOptions)

func (f readerOption) applyReader(o *readerOptions) { f(o) }

// DefaultPageBytes is how much a page may hold before it is cut: 8 MiB.
const DefaultPageBytes = 8 << 20

// PageBytes limits a page's memory: it is cut after the event that reaches n bytes. Default DefaultPageBytes.
func PageBytes(n int) ReaderOption { return readerOption(func(o *readerOptions) { o.pageBytes = n }) }

// AllowFsyncOff lets NewReader accept a server with fsync=off, for demonstrations: a power cut may then lose or repeat events.
func AllowFsyncOff() ReaderOption {
	return readerOption(func(o *readerOptions) { o.allowNoFsync = true })
}

var errNotYet = errors.New("store: not built yet")

// NewReader prepares the connection and checks the server and the outbox named by schema ("outbox" by default). What it
// refuses is a *SetupError, or a *SourceError for a standby.
func NewReader(ctx context.Context, conn *pgx.Conn, schema string, options ...ReaderOption) (*Reader, error) {
	return nil, errNotYet
}

// Source asks the database about itself without opening a window, for a check at start.
func (r *Reader) Source(ctx context.Context) (Source, error) { return Source{}, errNotYet }

// Open opens the window from last to now and reads its first page, of at most limit events. Upper is taken in the
// statement that reads the page. An idle outbox gives an empty page with More false.
func (r *Reader) Open(ctx context.Context, last Snapshot, limit int) (*Window, Page, error) {
	return nil, Page{}, errNotYet
}

// Reopen opens the window (last, upper] again after a restart: Page gives the same events in the same order. Its flush gate is closed
// anew.
func (r *Reader) Reopen(ctx context.Context, last, upper Snapshot) (*Window, error) {
	return nil, errNotYet
}

// Page reads at most limit events of the window with ids above after (0 for the first page), strictly by id.
func (r *Reader) Page(ctx context.Context, w *Window, after int64, limit int) (Page, error) {
	return Page{}, errNotYet
}

// Flushed reports whether Postgres has flushed its WAL up to w.FlushLSN: the gate before anything of the window is committed.
func (r *Reader) Flushed(ctx context.Context, w *Window) (bool, error) { return false, errNotYet }

// ForceFlush makes Postgres flush its WAL now, by a commit of its own that writes nothing else. Call it when Flushed says no for a
// window that has events; ask Flushed again afterwards.
func (r *Reader) ForceFlush(ctx context.Context) error { return errNotYet }

// VerifyRow checks that the last published row is still the one the cursor knows: ErrDiverged (in a *SourceError) if another
// event has the id, or if the row is gone though lower ids of its leaf are still there. A row that retention took is not an error.
func (r *Reader) VerifyRow(ctx context.Context, id int64, eventID [16]byte) error { return errNotYet }

// Schema reads the schema an event was written with; ErrNoSchema if the outbox does not hold it.
func (r *Reader) Schema(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error) {
	return nil, errNotYet
}
