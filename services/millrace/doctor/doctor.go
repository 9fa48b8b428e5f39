// Package doctor looks at everything that Millrace stands on - Postgres, Kafka, the registry, the stores of sinks - and says what is wrong there, why that
// matters and what mends it. It changes nothing and takes no lock that anybody would wait for.
//
// A check is a small function with a name in one of these lists: serverChecks and outboxChecks (Postgres), clusterChecks and topicChecks
// (Kafka), registryChecks, and those of sinks (warehouseChecks, searchChecks, folderChecks, cacheChecks). To add one, write it and put it into its list.
//
//	doctor.go               Run and what it returns
//	check.go                how checks are run and findings made
//	postgres.go, tables.go  the server; the outbox in it
//	kafka.go, topics.go     the cluster; the topics of an outbox; rights.go: what we may do there
//	registry.go             the schema registry
//	redis.go                the server of a cache sink
//	sinks.go                the stores of sinks: folders, dead letters, generations (generations.go); sinks_postgres.go, sinks_opensearch.go: servers
//	stored.go               how large the store of a sink is
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/services/sink"
)

// Severity says how much a finding matters.
type Severity string

const (
	// OK: as it should be.
	OK Severity = "ok"
	// Note: worth knowing; nothing need be done.
	Note Severity = "note"
	// Warning: works, and will not in some case that can be foreseen; or could not be looked at.
	Warning Severity = "warning"
	// Error: does not work, or loses something.
	Error Severity = "error"
)

// Severities are all of them, the worst last.
var Severities = []Severity{OK, Note, Warning, Error}

// Finding is what one check found.
type Finding struct {
	// System is postgres, kafka, registry, redis or sink.
	System string `json:"system"`
	// Outbox is the outbox that it concerns; empty for what concerns all.
	Outbox string `json:"outbox,omitempty"`
	// Sink is the sink that it concerns; empty for what concerns none, or all.
	Sink string `json:"sink,omitempty"`
	// Check is the name of the check.
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// What was found; Why it matters and Mend, the command or setting that mends it, are empty where all is well.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	Mend string `json:"mend,omitempty"`
}

// Report is all that was found, by system and outbox, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Count returns how many findings are of a severity.
func (r Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Site is what is looked at.
type Site struct {
	// Outboxes are the relays' settings; Outbox and Postgres must be set.
	Outboxes []relay.Config
	// Sinks are the sinks' settings; their names must be set.
	Sinks []sink.Config
	// Projections are all that are declared; nil: what sinks serve is not compared with them.
	Projections []*projection.Projection
	// Kafka are the options of every Kafka client.
	Kafka []kgo.Opt
	// Principal is who we are to Kafka's authorizer, such as "User:millrace"; empty where that is not known.
	Principal string
	// Registry is the schema registry.
	Registry *registry.Client
	// Caches are the sinks of kind redis.
	Caches []Cache
	// Explain adds to an error of a connection what to do about it. Default: nothing.
	Explain func(error) error
	// Timeout bounds the look at each system. Default 15 s.
	Timeout time.Duration
}

// Run looks at everything at once. What does not answer is a finding and keeps nobody from the rest.
func Run(ctx context.Context, s Site) Report {
	if s.Explain == nil {
		s.Explain = func(err error) error { return err }
	}
	if s.Timeout == 0 {
		s.Timeout = 15 * time.Second
	}
	s.Outboxes = slices.Clone(s.Outboxes)
	for i, o := range s.Outboxes {
		s.Outboxes[i] = o.WithDefaults()
	}
	looks := make([]func(context.Context) []Finding, 0, len(s.Outboxes)+len(s.Caches)+2)
	for _, o := range s.Outboxes {
		looks = append(looks, func(ctx context.Context) []Finding { return s.postgres(ctx, o) })
	}
	looks = append(looks, s.kafka, s.registry)
	for _, c := range s.Caches {
		looks = append(looks, func(ctx context.Context) []Finding { return s.cache(ctx, c) })
	}
	for _, k := range s.Sinks {
		looks = append(looks, func(ctx context.Context) []Finding { return s.store(ctx, k) }, func(ctx context.Context) []Finding { return s.deadLetters(ctx, k) },
			func(ctx context.Context) []Finding { return s.generations(ctx, k) })
	}
	parts := make([][]Finding, len(looks))
	var looking sync.WaitGroup
	for i, look := range looks {
		looking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.Timeout)
			defer cancel()
			parts[i] = look(ctx)
		})
	}
	looking.Wait()
	return Report{Findings: slices.Concat(parts...)}
}
