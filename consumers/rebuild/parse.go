package rebuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Limits of what is read from the topic of generations, and written to it.
const (
	maxRecord      = 8 << 20 // bytes of a record
	maxAsk         = 64 << 10
	maxID          = 64
	maxReason      = 4000
	maxGenerations = 16 // that exist at a time; there are two in a rebuild
	maxDeclared    = 1000
	maxOpen        = 1000 // requests that wait
	maxAnswers     = 1000 // that are remembered
)

// recordKey and progressKey are the keys of the record and of the progress made since it was written. Requests and answers have their ids.
const (
	recordKey   = "record"
	progressKey = "progress"
)

// errNotOurs says that a record of the topic is nothing that a sink or a command writes.
var errNotOurs = errors.New("not a record of generations")

// progressed is the record that tells how far a rebuild is, between two changes of the record itself: it is small.
type progressed struct {
	Rebuild  string   `json:"progress_of"`
	State    State    `json:"state"`
	Progress Progress `json:"progress"`
}

// states are those that are known.
var states = []State{Planned, Building, CatchingUp, Verifying, Refused, CuttingOver, Soaking, Retiring, Failed}

// actions are those that can be asked for.
var actions = []Action{Start, Pause, Resume, Abort, Rollback, Accept, Finish}

// readRecord reads what stands under the key record. Anybody may have written it.
func readRecord(value []byte) (*Record, error) {
	r := new(Record)
	if err := readJSON(value, maxRecord, r); err != nil {
		return nil, err
	}
	return r, r.validate()
}

func readProgress(value []byte) (*progressed, error) {
	p := new(progressed)
	if err := readJSON(value, maxAsk, p); err != nil {
		return nil, err
	}
	if p.Rebuild == "" || !slices.Contains(states, p.State) || p.Progress.Events < 0 || p.Progress.Total < 0 {
		return nil, fmt.Errorf("%w: progress of no rebuild", errNotOurs)
	}
	return p, nil
}

// readAsked reads a request or an answer.
func readAsked(value []byte) (*Request, *Answer, error) {
	var kind struct {
		Request string `json:"request"`
		Answer  string `json:"answer"`
	}
	if err := readJSON(value, maxAsk, &kind); err != nil {
		return nil, nil, err
	}
	switch {
	case kind.Request != "" && kind.Answer == "":
		q := new(Request)
		if err := readJSON(value, maxAsk, q); err != nil {
			return nil, nil, err
		}
		return q, nil, q.validate()
	case kind.Answer != "" && kind.Request == "":
		a := new(Answer)
		if err := readJSON(value, maxAsk, a); err != nil {
			return nil, nil, err
		}
		if len(a.ID) > maxID {
			return nil, nil, fmt.Errorf("%w: an answer with an id of %d bytes", errNotOurs, len(a.ID))
		}
		a.Reason = cut(a.Reason, maxReason)
		return nil, a, nil
	}
	return nil, nil, fmt.Errorf("%w: neither a request nor an answer", errNotOurs)
}

func readJSON(value []byte, most int, into any) error {
	if len(value) > most || !utf8.Valid(value) {
		return fmt.Errorf("%w: %d bytes of something else", errNotOurs, len(value))
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: %w", errNotOurs, err)
	}
	return nil
}

func (r *Record) validate() error {
	switch {
	case r.Serving < 1, r.Newest < r.Serving, len(r.Generations) > maxGenerations:
		return fmt.Errorf("%w: generation %d serves, the newest is %d, of %d", errNotOurs, r.Serving, r.Newest, len(r.Generations))
	case r.Generations[r.Serving] == nil:
		return fmt.Errorf("%w: generation %d serves and is not there", errNotOurs, r.Serving)
	}
	for n, g := range r.Generations {
		if n < 1 || n > r.Newest || g == nil || len(g.Projections) > maxDeclared || len(g.Digests) > maxDeclared {
			return fmt.Errorf("%w: generation %d of %d", errNotOurs, n, r.Newest)
		}
	}
	if b := r.Rebuild; b != nil {
		if err := b.validate(); err != nil {
			return err
		}
		if r.Serving != b.Old && r.Serving != b.New || b.New > r.Newest {
			return fmt.Errorf("%w: a rebuild of %d to %d, and %d serves", errNotOurs, b.Old, b.New, r.Serving)
		}
	}
	return nil
}

func (b *Rebuild) validate() error {
	switch {
	case b.ID == "", len(b.ID) > maxID, !slices.Contains(states, b.State):
		return fmt.Errorf("%w: a rebuild in state %q", errNotOurs, cut(string(b.State), 40))
	case b.Old < 1, b.New <= b.Old:
		return fmt.Errorf("%w: a rebuild of generation %d to %d", errNotOurs, b.Old, b.New)
	}
	b.Reason = cut(b.Reason, maxReason)
	return b.Options.Check()
}

func (q *Request) validate() error {
	switch {
	case q.ID == "", len(q.ID) > maxID:
		return fmt.Errorf("%w: a request with an id of %d bytes", errNotOurs, len(q.ID))
	case !slices.Contains(actions, q.Action):
		return fmt.Errorf("%w: a request for %q", errNotOurs, cut(string(q.Action), 40))
	case q.Options != nil:
		return q.Options.Check()
	}
	return nil
}

// From of Options.
const (
	FromBeginning = "beginning"
	FromBronze    = "bronze"
)

// Defaults of Options.
const (
	DefaultMaxLag  = 10 * time.Second
	DefaultKeepOld = 24 * time.Hour
)

// WithDefaults returns a copy with every unset field filled in.
func (o Options) WithDefaults() Options {
	if o.From == "" {
		o.From = FromBeginning
	}
	if o.MaxLag == 0 {
		o.MaxLag = DefaultMaxLag
	}
	if o.KeepOld == 0 {
		o.KeepOld = DefaultKeepOld
	}
	return o
}

// Check says what is wrong with the options; nil if nothing is.
func (o Options) Check() error {
	if _, ok := o.since(); !ok && o.From != "" && o.From != FromBeginning && o.From != FromBronze {
		return fmt.Errorf("from %q is neither beginning, bronze nor a time such as 2026-01-31T00:00:00Z", cut(o.From, 40))
	}
	switch {
	case o.Rate < 0:
		return fmt.Errorf("a rate of %d is below 0", o.Rate)
	case o.MaxLag < 0:
		return fmt.Errorf("a lag of %v is below 0", o.MaxLag)
	case o.KeepOld < 0:
		return fmt.Errorf("%v to keep the old generation is below 0", o.KeepOld)
	case len(o.Digests) > maxDeclared:
		return fmt.Errorf("%d digests are more than %d", len(o.Digests), maxDeclared)
	}
	return nil
}

// since is the time that From names.
func (o Options) since() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, o.From)
	return t, err == nil
}

// cut shortens text to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
