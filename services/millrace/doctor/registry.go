package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/relay"
)

var registryChecks = []check[Site]{
	{"mode", mode},
	{"compatibility", compatibility},
	{"compatibility of subjects", subjectCompatibility},
}

func (s Site) registry(ctx context.Context) []Finding {
	if s.Registry == nil {
		return nil
	}
	const why = "events of schemas that the relay has not met before are parked until it answers; the others go on"
	if err := s.Registry.Ping(ctx); err != nil {
		return s.away("registry", "", why, err)
	}
	return append([]Finding{{System: "registry", Check: "reachable", Severity: OK, What: s.Registry.URL() + " answers"}},
		examine(ctx, "registry", "", s, registryChecks)...)
}

func mode(ctx context.Context, s Site) ([]Finding, error) {
	m, err := s.Registry.Mode(ctx)
	switch {
	case err != nil:
		return found(Note, "the registry does not tell its mode", "if it takes no new schemas, events that use one are parked", ""), nil
	case m != "READWRITE":
		return found(Error, "the registry is in mode "+m, "it takes no new schemas: events that use one are parked", s.put("/mode", `{"mode":"READWRITE"}`)), nil
	}
	return fine("the registry takes new schemas"), nil
}

// put is a command that changes something in the registry.
func (s Site) put(path, body string) string {
	return fmt.Sprintf("curl -X PUT -H 'Content-Type: application/vnd.schemaregistry.v1+json' --data '%s' %s%s", body, s.Registry.URL(), path)
}

const whyLevel = "a change that breaks readers is not refused: it comes out in the consumers"

const backward = `{"compatibility":"BACKWARD"}`

func compatibility(ctx context.Context, s Site) ([]Finding, error) {
	level, err := s.Registry.Compatibility(ctx, "")
	switch {
	case errors.Is(err, registry.ErrNotFound), err == nil && level == "NONE":
		return found(Warning, "the compatibility level of the registry is NONE", whyLevel, s.put("/config", backward)), nil
	case err != nil:
		return nil, err
	case strings.HasPrefix(level, "FORWARD"):
		return found(Note, "the compatibility level of the registry is "+level, "a sink that is rebuilt reads old events with the newest schema: BACKWARD or FULL promise that it can", s.put("/config", backward)), nil
	}
	return fine("the compatibility level of the registry is %s", level), nil
}

// maxSubjects bounds how many subjects are asked about.
const maxSubjects = 200

func subjectCompatibility(ctx context.Context, s Site) ([]Finding, error) {
	if level, err := s.Registry.Compatibility(ctx, ""); err != nil || level == "NONE" {
		return nil, nil // which is said already
	}
	subjects, err := s.Registry.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(subjects)
	var all []Finding
	asked := 0
	for _, subject := range subjects {
		if !s.ours(subject) || asked == maxSubjects {
			continue
		}
		asked++
		level, err := s.Registry.Compatibility(ctx, subject)
		if errors.Is(err, registry.ErrNotFound) {
			continue // as the registry has it
		}
		if err != nil {
			return all, err
		}
		if level != "NONE" {
			continue
		}
		// Some registries say NONE of a subject for which the rule of all holds. No rule lets a record become text.
		anything, _, err := s.Registry.Compatible(ctx, subject, `"string"`)
		if err != nil {
			return all, err
		}
		if anything {
			all = append(all, found(Warning, fmt.Sprintf("the compatibility level of subject %s is NONE", subject), whyLevel, s.put("/config/"+subject, backward))...)
		}
	}
	if len(all) == 0 {
		return fine("each of %d subjects of our topics has a rule", asked), nil
	}
	return all, nil
}

// ours says whether a subject is of a configured topic.
func (s Site) ours(subject string) bool {
	for _, o := range s.Outboxes {
		if o.Subjects == relay.RecordSubjects {
			return true // they do not tell of which topic they are
		}
		for topic := range o.Topics {
			if strings.HasPrefix(subject, topic+"-") {
				return true
			}
		}
	}
	return false
}
