package relay

import (
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Postgres sends a page 8 KiB at a time, some twenty events, and whoever waits for it is woken for each, on either side: over a million
// events that took both together 0.4 s of CPU. So behind the first of a long answer a gatherer waits until more has come.
const (
	gatherBuffer = 256 << 10            // bytes read at once
	gatherFrom   = 64 << 10             // an answer of so many bytes is a long one
	gatherPause  = time.Millisecond     // for what is to come of it
	gatherEnough = gatherBuffer * 3 / 4 // bytes that came at once, behind which more is taken to be there
)

// gatherer is a connection as it is read and written to.
type gatherer struct {
	r io.Reader
	w io.Writer

	buffer []byte
	rest   []byte // of buffer, not read yet
	last   int    // how much came at once the last time
	answer int    // bytes of the answer so far
}

// gather makes a connection wait a little for long answers.
func gather(cfg *pgx.ConnConfig) {
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		g := &gatherer{r: r, w: w, buffer: make([]byte, gatherBuffer)}
		return pgproto3.NewFrontend(g, g)
	}
}

// Write begins a new answer.
func (g *gatherer) Write(p []byte) (int, error) {
	g.answer = 0
	return g.w.Write(p)
}

func (g *gatherer) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		if g.answer >= gatherFrom && g.last < gatherEnough {
			time.Sleep(gatherPause)
		}
		n, err := g.r.Read(g.buffer)
		g.rest, g.last, g.answer = g.buffer[:n], n, g.answer+n
		if err != nil && n == 0 {
			return 0, err
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}
