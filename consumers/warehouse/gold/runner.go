package gold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config configures a Runner.
type Config struct {
	// Engine is the warehouse, and Graph are the models. Both are required.
	Engine Engine
	Graph  *Graph
	// Interval is how long after a look at the inputs Run looks again. A model is not built more often. Default 1 min.
	Interval time.Duration
	// Timeout bounds the build of one model, its tests included. Default 10 min.
	Timeout time.Duration
	// Logger gets a line for each build, failure and recovery. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// WithDefaults returns a copy with every unset field filled in.
func (c Config) WithDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = time.Minute
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Runner builds the models of a warehouse. It is safe for concurrent use.
type Runner struct {
	cfg     Config
	engine  Engine
	graph   *Graph
	metrics *metrics
	now     func() time.Time
	note    atomic.Pointer[string]
}

// New makes a Runner. It does nothing until it is asked to.
func New(cfg Config) (*Runner, error) {
	cfg = cfg.WithDefaults()
	if cfg.Engine == nil || cfg.Graph == nil {
		return nil, errors.New("gold: Engine and Graph are required")
	}
	return &Runner{cfg: cfg, engine: cfg.Engine, graph: cfg.Graph, metrics: newMetrics(cfg.Registerer, cfg.Graph), now: time.Now}, nil
}

// Graph are the models.
func (r *Runner) Graph() *Graph { return r.graph }

// Options say how a model is built that somebody asks for.
type Options struct {
	// Full builds an incremental model in full, and any model although no input has moved.
	Full bool `json:"full"`
}

// Outcome is what became of a model.
type Outcome struct {
	Model string `json:"model"`
	// State is "built", "fresh" (there was nothing to do), "failed" or "halted".
	State string `json:"state"`
	// Mode is how it was built, "full" or "incremental", and Reason why, or why not.
	Mode   string `json:"mode,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Rows is how many the model has; Keys how many keys an incremental build made anew.
	Rows int64 `json:"rows"`
	Keys int64 `json:"keys,omitempty"`
	// By is the model that halts this one.
	By    string        `json:"by,omitempty"`
	Error string        `json:"error,omitempty"`
	Tests []TestFailure `json:"tests,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
}

// tries is how often a build is tried that fails with something that may pass, and tryPause the pause before the second try.
const (
	tries    = 3
	tryPause = 200 * time.Millisecond
)

// Build builds a model now if it is not fresh, also one that has failed before. What is wrong with the model is the Outcome's to say; the error
// is that of the warehouse, or of a name (ErrNoModel), or ErrBusy.
func (r *Runner) Build(ctx context.Context, model string, o Options) (Outcome, error) {
	return r.build(ctx, model, true, o.Full)
}

func (r *Runner) build(ctx context.Context, model string, asked, full bool) (out Outcome, err error) {
	m := r.graph.Model(model)
	if m == nil {
		return out, fmt.Errorf("%w: %.60q", ErrNoModel, model)
	}
	start := r.now()
	for try := 1; ; try++ {
		out, err = r.attempt(ctx, m, asked, full, start)
		if _, passes := r.words(m, err); !passes || errors.Is(err, ErrBusy) || try == tries || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(tryPause << (try - 1)):
		}
	}
	if err != nil && !errors.Is(err, ErrBusy) && ctx.Err() == nil {
		out, err = r.fail(ctx, m, err, start)
	}
	out.Model, out.Seconds = model, r.now().Sub(start).Seconds()
	if err == nil {
		r.tell(out)
	}
	return out, err
}

// attempt decides and builds in one transaction.
func (r *Runner) attempt(ctx context.Context, m *Model, asked, full bool, start time.Time) (out Outcome, err error) {
	limit, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var b *building
	err = r.engine.Transaction(limit, func(tx Tx) error {
		s, err := r.look(limit, tx)
		if err != nil {
			return err
		}
		p := r.decide(m, s, asked, full)
		if !p.build() {
			out = Outcome{State: p.state, Reason: p.reason, By: p.by}
			if rec := s.records[m.Name]; rec != nil {
				out.Rows = rec.Rows
			}
			return nil
		}
		b = r.begin(m, s, p, tx)
		if err := b.run(limit); err != nil {
			return err
		}
		b.rec.BuiltAt, b.rec.Took = r.now().UTC(), r.now().Sub(start)
		return r.save(limit, tx, m.Name, b.rec)
	})
	if err != nil {
		if ctx.Err() == nil && errors.Is(limit.Err(), context.DeadlineExceeded) {
			err = &Error{File: m.File, Reason: fmt.Sprintf("took longer than %v", r.cfg.Timeout)}
		}
		return out, &attemptError{b, err}
	}
	if b != nil {
		out = Outcome{State: "built", Mode: b.plan.state, Reason: b.plan.reason, Rows: b.rec.Rows, Keys: b.affected}
	}
	return out, nil
}

func (r *Runner) begin(m *Model, s *survey, p plan, tx Tx) *building {
	b := &building{r: r, e: r.engine, tx: tx, m: m, plan: p, old: s.records[m.Name], rec: &Record{Digest: m.Digest, Build: 1, Inputs: p.inputs}}
	if b.old != nil {
		b.rec.Build = b.old.Build + 1
	}
	if m.Incremental != nil {
		b.rec.Key = m.Incremental.Key
	}
	return b
}

// attemptError is an error with what was being built.
type attemptError struct {
	b   *building // nil if nothing was
	err error
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// fail remembers that a model could not be built. What readers see has not changed.
func (r *Runner) fail(ctx context.Context, m *Model, cause error, start time.Time) (Outcome, error) {
	var at *attemptError
	if !errors.As(cause, &at) || at.b == nil { // not the model's doing: the warehouse could not be looked at
		return Outcome{}, cause
	}
	f := &Failure{At: r.now().UTC(), Digest: m.Digest, Inputs: at.b.plan.inputs}
	f.Error, f.Transient = r.words(m, at.err)
	if errors.Is(at.err, errTests) {
		f.Tests = at.b.failed
		f.Error = fmt.Sprintf("%s: %s", m.File, testWords(f.Tests))
	}
	out := Outcome{State: "failed", Mode: at.b.plan.state, Error: f.Error, Tests: f.Tests}
	err := r.engine.Transaction(ctx, func(tx Tx) error {
		s, err := r.look(ctx, tx)
		if err != nil {
			return err
		}
		rec := &Record{}
		if old := s.records[m.Name]; old != nil {
			rec = old
		}
		f.Since, f.Tries = f.At, 1
		if rec.Failure != nil {
			f.Since, f.Tries = rec.Failure.Since, rec.Failure.Tries+1
		}
		rec.Failure, out.Rows = f, rec.Rows
		return r.save(ctx, tx, m.Name, rec)
	})
	if err != nil {
		return out, fmt.Errorf("model %s failed, and to remember that failed, too: %w", m.Name, err)
	}
	return out, nil
}

// words says what is wrong with a model for the one who wrote it, and whether it may pass by itself.
func (r *Runner) words(m *Model, err error) (text string, transient bool) {
	var own *Error
	switch {
	case err == nil, errors.Is(err, errTests):
		return "", false
	case errors.As(err, &own):
		return own.Error(), false
	}
	text, line, transient := r.engine.Explain(err)
	return (&Error{File: m.File, Line: line, Reason: text}).Error(), transient
}

func testWords(failed []TestFailure) string {
	text := ""
	for i, t := range failed {
		if i > 0 {
			text += "; "
		}
		rows := "1 row fails"
		if t.Rows != 1 {
			rows = fmt.Sprintf("%d rows fail", t.Rows)
		}
		text += rows + " " + t.Test
	}
	return text
}

// tell counts and logs an outcome. Lines hold no values of rows.
func (r *Runner) tell(out Outcome) {
	switch out.State {
	case "built":
		r.metrics.outcome(out)
		r.cfg.Logger.Info("gold model built", "model", out.Model, "mode", out.Mode, "because", out.Reason, "rows", out.Rows, "keys", out.Keys, "took", time.Duration(out.Seconds*float64(time.Second)))
	case "failed":
		if out.Error != "" { // else it was not tried
			r.metrics.outcome(out)
			why := "millrace gold status tells" // what a server says of a value may repeat it
			if len(out.Tests) > 0 {
				why = testWords(out.Tests)
			}
			r.cfg.Logger.Error("gold model failed; readers see what was built before, and what reads it is halted", "model", out.Model,
				"downstream", len(r.graph.Downstream(out.Model)), "err", why)
		}
	}
}

// Run builds what is due, again and again, until ctx ends. Nothing that goes wrong ends it.
func (r *Runner) Run(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		err := r.pass(ctx)
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, ErrBusy): // ErrBusy: somebody else does it
			told = ""
		case err.Error() != told:
			told = err.Error()
			r.setNote("gold cannot look at the warehouse: " + told)
			r.cfg.Logger.Warn("gold could not look at the warehouse; it tries again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.cfg.Interval):
		}
	}
}

// pass looks at every model once, in order.
func (r *Runner) pass(ctx context.Context) error {
	s, err := r.survey(ctx)
	if err != nil {
		return err
	}
	for _, m := range r.graph.Models {
		if p := r.decide(m, s, false, false); !p.build() {
			continue
		}
		if _, err := r.build(ctx, m.Name, false, false); err != nil {
			return err
		}
		if s, err = r.survey(ctx); err != nil {
			return err
		}
	}
	all := r.status(s)
	r.metrics.state(all)
	r.setNote(noteOf(all))
	return nil
}

// survey is a look in a transaction of its own.
func (r *Runner) survey(ctx context.Context) (s *survey, err error) {
	err = r.engine.Look(ctx, func(tx Tx) error {
		s, err = r.look(ctx, tx)
		return err
	})
	return s, err
}

// Prune takes away the tables of models that are no longer declared, and returns their names.
func (r *Runner) Prune(ctx context.Context) (gone []string, err error) {
	err = r.engine.Transaction(ctx, func(tx Tx) error {
		gone = nil
		s, err := r.look(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range sortedKeys(s.records) {
			if r.graph.Model(name) != nil {
				continue
			}
			if err := r.remove(ctx, tx, name, s.records[name]); err != nil {
				return fmt.Errorf("take away gold.%s: %w", name, err)
			}
			gone = append(gone, name)
		}
		return nil
	})
	return gone, err
}

func (r *Runner) remove(ctx context.Context, tx Tx, name string, rec *Record) error {
	if rec.Base != "" {
		if err := tx.Exec(ctx, "DROP VIEW "+r.engine.Input("gold."+name)); err != nil {
			return err
		}
		for _, table := range append([]string{rec.Base}, sortedValues(rec.Seen)...) {
			if err := tx.Exec(ctx, "DROP TABLE "+r.engine.Base(table)); err != nil {
				return err
			}
		}
	}
	return tx.Exec(ctx, "DELETE FROM "+r.engine.Meta("gold")+" WHERE model = $1", name)
}

func sortedValues(m map[string]string) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return sorted(maps.Keys(m)) }
