package main

import (
	"context"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/sink"
)

// servesTimeout bounds the look at what serves, for a check that can do without.
const servesTimeout = 3 * time.Second

// differNotes say which sinks serve what other declarations have made than those that are configured.
func (c *Config) differNotes(ctx context.Context, projections []*projection.Projection) []string {
	opts, err := c.Kafka.options()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, servesTimeout)
	defer cancel()
	var notes []string
	for _, name := range sorted(c.Sinks) {
		if c.Sinks[name].Role() == sink.Webhook {
			continue
		}
		rec, err := rebuild.Open(name, opts...).Read(ctx)
		switch {
		case ctx.Err() != nil:
			return append(notes, "whether sinks serve what these declarations make was not looked at: Kafka does not answer")
		case err != nil:
			notes = append(notes, "sinks."+name+": what serves was not looked at: "+oneLine(err))
			continue
		}
		keep, _, err := c.Sinks[name].Resolve(projections)
		if err != nil {
			continue // which is said already
		}
		if names := rec.Generations[rec.Serving].Differs(keep); len(names) > 0 {
			notes = append(notes, "sinks."+name+": "+differText(names)+": millrace rebuild --plan "+name)
		}
	}
	return notes
}

func differText(entities []string) string {
	if len(entities) == 1 {
		return "the declaration of " + entities[0] + " differs from the one that serves"
	}
	return "the declarations of " + strings.Join(entities, ", ") + " differ from those that serve"
}
