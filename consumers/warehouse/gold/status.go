package gold

import (
	"context"
	"iter"
	"slices"
	"time"
)

// Status is where a model stands.
type Status struct {
	Model string `json:"model"`
	Kind  string `json:"kind"`
	About string `json:"about,omitempty"`
	// State is "fresh", "behind", "failed", "halted", "new" (not built yet) or "undeclared": its table is there, its file is not.
	State string `json:"state"`
	// Behind is how many events the sink has applied since the build, of the topics that the model follows.
	Behind int64 `json:"behind_events"`
	// Reason says why it is not fresh.
	Reason string `json:"reason,omitempty"`
	// By is the model that halts it, since Since; a failed one has failed since then.
	By    string        `json:"by,omitempty"`
	Since time.Time     `json:"since,omitzero"`
	Tests []TestFailure `json:"tests,omitempty"`
	// Built tells of what readers see.
	Rows    int64     `json:"rows"`
	Build   int64     `json:"build"`
	Mode    string    `json:"mode,omitempty"`
	BuiltAt time.Time `json:"built_at,omitzero"`
	Seconds float64   `json:"seconds"`
	// Positions are the offsets up to which it holds its topics, by topic and partition.
	Positions map[string]map[string]int64 `json:"positions,omitempty"`
}

// Status returns where each model stands, in the order of building.
func (r *Runner) Status(ctx context.Context) ([]Status, error) {
	s, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	return r.status(s), nil
}

func (r *Runner) status(s *survey) []Status {
	var out []Status
	for _, m := range r.graph.Models {
		out = append(out, r.one(m, s))
	}
	for _, name := range sortedKeys(s.records) {
		if r.graph.Model(name) == nil {
			st := Status{Model: name, State: "undeclared", Reason: "its file is gone; gold run --prune takes it away"}
			st.built(s, s.records[name])
			out = append(out, st)
		}
	}
	return out
}

func (st *Status) built(s *survey, rec *Record) {
	if rec == nil || rec.Build == 0 {
		return
	}
	st.Rows, st.Build, st.Mode, st.BuiltAt, st.Seconds = rec.Rows, rec.Build, rec.Mode, rec.BuiltAt, rec.Took.Seconds()
	st.Positions, st.Behind = s.positions(rec), s.behind(rec)
}

func (r *Runner) one(m *Model, s *survey) Status {
	st := Status{Model: m.Name, Kind: m.Kind(), About: m.About}
	rec := s.records[m.Name]
	st.built(s, rec)
	p := r.decide(m, s, false, false)
	st.Reason = p.reason
	switch {
	case p.state == "halted":
		st.State, st.By, st.Since = p.state, p.by, p.since
	case rec != nil && rec.Failure != nil:
		st.State, st.Reason, st.Since, st.Tests = "failed", rec.Failure.Error, rec.Failure.Since, rec.Failure.Tests
	case rec == nil || rec.Build == 0:
		st.State = "new"
	case p.state == "fresh":
		st.State, st.Reason = "fresh", ""
	default:
		st.State = "behind"
	}
	return st
}

func sorted(seq iter.Seq[string]) []string { return slices.Sorted(seq) }
