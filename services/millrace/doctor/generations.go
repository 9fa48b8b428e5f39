package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/sink"
)

// generations are a sink's, as far as they are recorded.
type generations struct {
	rebuild.Record
	declared []fold.Projection // nil if that is not known
}

var generationChecks = []check[generations]{
	{"declarations", declarations},
	{"rebuild", rebuilding},
}

// generations looks at what a sink serves, and at a rebuild that waits for somebody.
func (s Site) generations(ctx context.Context, cfg sink.Config) []Finding {
	if cfg.Role() == sink.Webhook {
		return nil
	}
	var on generations
	var all []Finding
	if s.Projections != nil {
		on.declared, _, _ = cfg.Resolve(s.Projections) // what is wrong with it was said when the configuration was read
	}
	var err error
	if on.Record, err = rebuild.Open(cfg.Name, s.Kafka...).Read(ctx); err == nil {
		all = examine(ctx, "sink", "", on, generationChecks)
	} else {
		all = examine(ctx, "sink", "", on, []check[generations]{{"declarations", func(context.Context, generations) ([]Finding, error) { return nil, err }}})
	}
	for i := range all {
		all[i].Sink = cfg.Name
	}
	return all
}

// declarations compares what serves with what is configured.
func declarations(_ context.Context, on generations) ([]Finding, error) {
	if on.declared == nil {
		return nil, nil
	}
	if names := on.Generations[on.Serving].Differs(on.declared); len(names) > 0 && on.Rebuild == nil {
		return found(Warning, fmt.Sprintf("generation %d serves, made by other declarations than are configured: %s", on.Serving, strings.Join(names, ", ")),
			"readers see these entities as they were declared before", "millrace rebuild --plan "+on.Sink+"; then: millrace rebuild "+on.Sink), nil
	}
	return fine("generation %d serves", on.Serving), nil
}

// rebuilding looks for a rebuild that nobody looks at.
func rebuilding(_ context.Context, on generations) ([]Finding, error) {
	r := on.Rebuild
	if r == nil {
		return nil, nil
	}
	what, status := fmt.Sprintf("a rebuild to generation %d: %s", r.New, r.State), "millrace rebuild status "+on.Sink
	const waits = "two generations take room, and nothing goes on by itself"
	switch {
	case r.State == rebuild.Failed || r.State == rebuild.Refused:
		return found(Warning, what+": "+r.Reason, waits, status), nil
	case r.Paused:
		return found(Note, what+", paused", waits, "millrace rebuild resume "+on.Sink), nil
	}
	return found(Note, what, "two generations take room while it lasts", status), nil
}
