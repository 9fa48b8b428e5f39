package gold

import (
	"slices"
	"strings"
	"time"
)

// plan is what is to be done about a model.
type plan struct {
	// state is "fresh", "halted", "failed", "full" or "incremental".
	state  string
	reason string
	// by is the model that halts this one.
	by     string
	since  time.Time
	inputs map[string]Input
	// moved are the inputs that changed since the last build.
	moved []string
}

func (p plan) build() bool { return p.state == "full" || p.state == "incremental" }

func upstream(input string) (model string, ok bool) { return strings.CutPrefix(input, "gold.") }

// decide says what is to be done about a model. asked is a person's wish to try although it failed, full to build all of it.
func (r *Runner) decide(m *Model, s *survey, asked, full bool) plan {
	if by, since := r.halted(m, s); by != "" {
		return plan{state: "halted", by: by, since: since, reason: "gold." + by + " has failed"}
	}
	now, missing := s.inputsOf(m)
	p := plan{inputs: now}
	if missing != "" {
		up, _ := upstream(missing)
		p.state, p.by, p.reason = "halted", up, missing+" has not been built yet"
		return p
	}
	rec := s.records[m.Name]
	if rec != nil && rec.Failure != nil && !asked && !r.retry(m, rec.Failure, now) {
		p.state, p.reason, p.since = "failed", rec.Failure.Error, rec.Failure.Since
		return p
	}
	if rec == nil || rec.Build == 0 {
		p.state, p.reason = "full", "it has not been built yet"
		return p
	}
	for _, name := range m.Inputs {
		if old, ok := rec.Inputs[name]; !ok || !old.equal(now[name]) {
			p.moved = append(p.moved, name)
		}
	}
	p.state, p.reason = r.mode(m, rec, p, full)
	return p
}

// mode says how a model is built that has been built before.
func (r *Runner) mode(m *Model, rec *Record, p plan, full bool) (state, reason string) {
	switch {
	case full:
		return "full", "it was asked for"
	case rec.Digest != m.Digest:
		return "full", "its file has changed"
	case len(p.moved) == 0 && rec.Failure == nil:
		return "fresh", "no input has moved"
	case m.Incremental == nil:
		return "full", moved(p.moved)
	}
	read := m.read()
	for _, name := range p.moved {
		_, followed := m.Incremental.From[name]
		switch {
		case !followed && slices.Contains(read, name):
			return "full", name + " has moved, which incremental.from does not name"
		case followed && rec.Inputs[name].Declared != p.inputs[name].Declared:
			return "full", name + " was declared anew"
		}
	}
	return "incremental", moved(p.moved)
}

func moved(inputs []string) string {
	switch len(inputs) {
	case 0:
		return "it failed before"
	case 1:
		return inputs[0] + " has moved"
	}
	return strings.Join(inputs, ", ") + " have moved"
}

// halted is the first model upstream that has failed, for nothing is built from what did not pass.
func (r *Runner) halted(m *Model, s *survey) (by string, since time.Time) {
	for _, up := range r.graph.Ancestors(m.Name) {
		if rec := s.records[up]; rec != nil && rec.Failure != nil {
			return up, rec.Failure.Since
		}
	}
	return "", time.Time{}
}

// Pauses between attempts that failed with something that may pass.
const (
	retryMin = 5 * time.Second
	retryMax = 10 * time.Minute
)

// retry says whether a model that failed is worth another attempt: its file or its inputs are others, or what failed may have passed.
func (r *Runner) retry(m *Model, f *Failure, now map[string]Input) bool {
	if f.Digest != m.Digest || !sameInputs(f.Inputs, now) {
		return true
	}
	pause := retryMin << min(f.Tries-1, 10)
	return f.Transient && !r.now().Before(f.At.Add(min(pause, retryMax)))
}
