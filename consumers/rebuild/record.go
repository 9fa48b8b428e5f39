package rebuild

import (
	"time"

	"github.com/millrace/millrace/consumers/compare"
)

// State is how far a rebuild is. Every state is durable: whoever takes a rebuild over goes on from it.
type State string

// The states of a rebuild, in their order; DESIGN 3.8. Building, catching up and verifying can be paused.
const (
	Planned     State = "planned"      // asked for; nothing is made yet
	Building    State = "building"     // the new generation reads bronze, then the log
	CatchingUp  State = "catching-up"  // it follows the log, and was not seen at the end yet
	Verifying   State = "verifying"    // both generations are compared
	Refused     State = "refused"      // they differ in what must be accepted or mended: Comparison says how; accept, abort or start anew
	CuttingOver State = "cutting-over" // the old generation is fenced, and the new one is about to serve; also on a rollback, the other way round
	Soaking     State = "soaking"      // the new generation serves, the old one follows behind, for a rollback
	Retiring    State = "retiring"     // what does not serve is being removed
	Failed      State = "failed"       // Reason says why; abort removes what was built
)

// Record is what is known of a sink's generations: the newest one on the sink's topic of generations.
type Record struct {
	Sink string `json:"sink"`
	// Serving is the generation that readers see and that the sink's processes feed. 1 for a sink that was never rebuilt.
	Serving int `json:"serving"`
	// Newest is the greatest number that a generation ever had.
	Newest int `json:"newest"`
	// Generations are those that exist, by number.
	Generations map[int]*Generation `json:"generations"`
	// Rebuild is the rebuild that goes on or soaks; nil if there is none.
	Rebuild *Rebuild `json:"rebuild,omitempty"`
	// Last is the rebuild before, for status; nil if there was none.
	Last *Rebuild  `json:"last,omitempty"`
	At   time.Time `json:"at"`
	// Process names who wrote this.
	Process string `json:"process,omitempty"`
}

// Generation is one build of a sink.
type Generation struct {
	// Projections are the declarations it is built by: files as they were read, by name. A generation lives on by its own when the configuration has changed.
	Projections map[string]string `json:"projections"`
	// Digests are those of the compiled declarations, by entity.
	Digests map[string]string `json:"digests"`
	MadeAt  time.Time         `json:"made_at"`
	// Rate is how many events a second it took when it was built, while it was not paused and did not wait for the live sink; 0 if that was not measured.
	Rate float64 `json:"rate,omitempty"`
	// Compared is how long it took to compare it, and to make what readers need beside the states; 0 if that was not measured.
	Compared time.Duration `json:"compared,omitempty"`
}

// Rebuild is one rebuild of a sink.
type Rebuild struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Old served when it began, New is what is built.
	Old int `json:"old"`
	New int `json:"new"`
	// Options are those that were asked for.
	Options Options `json:"options"`
	// Paused is set while somebody wants it to wait.
	Paused bool `json:"paused,omitempty"`
	// Recreated are topics that were deleted and made again since Old applied them, which has stopped it: there is nothing to compare New with, and nothing to go back to.
	Recreated []string `json:"recreated,omitempty"`
	// Began, SwappedAt and EndedAt are zero while it was not so; KeepUntil is when a soaking generation is retired.
	Began     time.Time `json:"began"`
	SwappedAt time.Time `json:"swapped_at,omitzero"`
	KeepUntil time.Time `json:"keep_until,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// RollingBack says that a rollback was asked for, and that it waits for those who read the store: Reason says for whom. New serves until then.
	RollingBack bool `json:"rolling_back,omitempty"`
	// RolledBack says that Old serves again.
	RolledBack bool `json:"rolled_back,omitempty"`
	// Outcome is set at the end: done, rolled-back, aborted.
	Outcome string `json:"outcome,omitempty"`
	// Reason says for a person why it failed, was refused or waits.
	Reason     string              `json:"reason,omitempty"`
	Progress   Progress            `json:"progress"`
	Comparison *compare.Comparison `json:"comparison,omitempty"`
}

// Options say how a rebuild is to be done.
type Options struct {
	// From is beginning (the default), bronze, or a time in RFC 3339: events from then on only, which is for a sink whose history before is of no use.
	From string `json:"from,omitempty"`
	// Rate bounds the events a second; 0 for no bound.
	Rate int `json:"rate,omitempty"`
	// MaxLag is the lag, in time, within which the live sink is to stay: the build waits while it is above half of that. Default 10 s.
	MaxLag time.Duration `json:"max_lag,omitempty"`
	// KeepOld is how long the old generation follows after the swap. Default 24 h.
	KeepOld time.Duration `json:"keep_old,omitempty"`
	// AcceptChanges lets the swap happen although the new declarations make differences.
	AcceptChanges bool `json:"accept_changes,omitempty"`
	// Digests, by entity, are those that whoever asked expects to be built; a process that has other declarations refuses. Empty: no check.
	Digests map[string]string `json:"digests,omitempty"`
}

// Progress is how far the building and catching up is.
type Progress struct {
	// Events were applied, of about Total that were there when it began (or, afterwards, are there).
	Events int64 `json:"events"`
	Total  int64 `json:"total"`
	// Rate is events a second over the last seconds; Remaining the time that is left at that rate, 0 if it cannot be told.
	Rate      float64       `json:"rate"`
	Remaining time.Duration `json:"remaining,omitempty"`
	// Phase says more than the state: bronze, log, entity "order".
	Phase string `json:"phase,omitempty"`
	// Throttled says why the build waits at the moment: "rate", "the live sink lags by 12s"; empty if it does not.
	Throttled string `json:"throttled,omitempty"`
	// Lag is that of the live sink, in events.
	Lag int64     `json:"lag"`
	At  time.Time `json:"at,omitzero"`
}

// Action is what somebody asks for.
type Action string

// The actions.
const (
	Start    Action = "start"
	Pause    Action = "pause"
	Resume   Action = "resume"
	Abort    Action = "abort"
	Rollback Action = "rollback"
	Accept   Action = "accept" // of changes that verifying has shown: goes on from refused
	Finish   Action = "finish" // of soaking: retires the old generation now
)

// Request is a record of the sink's topic of generations. Whoever leads carries it out and answers.
type Request struct {
	ID      string    `json:"request"`
	Action  Action    `json:"action"`
	Options *Options  `json:"options,omitempty"`
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at"`
}

// Answer says what became of a Request.
type Answer struct {
	ID string `json:"answer"`
	OK bool   `json:"ok"`
	// Reason says why not.
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Topic is the topic of a sink's generations: one partition, compacted; the record under the key "record", requests and answers under their ids.
func Topic(sink string) string { return "__millrace." + sink + ".generations" }
