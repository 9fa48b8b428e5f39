package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

// schemaKey is a schema under a subject; the topic is enough to know the subject.
type schemaKey struct {
	fingerprint schemas.Fingerprint
	topic       string
}

// resolved is what framing an event takes.
type resolved struct {
	id    int
	codec *avro.Codec
	wrong *fault
	until time.Time // when a fault is looked at again
}

// faultAge is how long a schema that cannot be used is not asked for again.
const faultAge = 10 * time.Second

// schemaIDs resolves schemas to registry ids. It belongs to the loop.
//
// The registry is asked once a process for each schema, so that a registry that was emptied or exchanged is noticed. Ids
// that were committed to the cursor topic answer while it is away.
type schemaIDs struct {
	registry Registry
	subjects Subjects
	lookup   func(ctx context.Context, fp schemas.Fingerprint) (*schemas.Schema, error)
	// missing tells lookup's "there is no such schema" from trouble.
	missing func(error) bool
	// away reports the registry's state: an error, or nil when it answers again.
	away  func(error)
	retry backoff
	// grace is how long the stream waits for a registry that does not answer.
	grace time.Duration
	now   func() time.Time

	// before is called before something outside is asked that may not answer for long; nil calls nothing.
	before func() error

	// since is when the registry first did not answer, of the outage at hand. down says that grace is over: events that need it
	// are parked, and it is not asked any more until a probe finds that it answers.
	since time.Time
	down  bool
	// hurry says that nothing waits for the registry, not even for grace: what is framed was parked before.
	hurry bool

	cache map[schemaKey]*resolved
	known map[string]int // subject and fingerprint -> id, as committed to the cursor topic
	fresh []idRecord     // not committed yet
}

// idRecord is a record of partition 1 of the cursor topic.
type idRecord struct {
	V           int    `json:"v"`
	Fingerprint string `json:"fingerprint"`
	Subject     string `json:"subject"`
	ID          int    `json:"id"`
}

func (r idRecord) key() string { return r.Fingerprint + " " + r.Subject }

// load takes a record that was read back; unreadable ones are asked for again.
func (s *schemaIDs) load(value []byte) {
	var r idRecord
	if err := json.Unmarshal(value, &r); err == nil && r.V == 1 && r.ID > 0 {
		s.known[r.key()] = r.ID
	}
}

// takeFresh returns records for the ids that the cursor topic does not hold yet.
func (s *schemaIDs) takeFresh(topic string) ([]*kgo.Record, error) {
	var records []*kgo.Record
	for _, r := range s.fresh {
		value, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		records = append(records, &kgo.Record{Topic: topic, Partition: idPartition, Key: []byte(r.key()), Value: value})
		s.known[r.key()] = r.ID
	}
	s.fresh = nil
	return records, nil
}

// resolve returns id and codec of the schema an event was written with. Where the id is not known it waits for the registry, for
// grace at most.
func (s *schemaIDs) resolve(ctx context.Context, fp schemas.Fingerprint, topic string) (*resolved, *fault, error) {
	r, ok := s.cache[schemaKey{fp, topic}]
	if ok && (r.wrong == nil || s.now().Before(r.until)) {
		return r, r.wrong, nil
	}
	if err := s.outside(); err != nil {
		return nil, nil, err
	}
	r, err := s.find(ctx, fp, topic)
	if err != nil {
		return nil, nil, err
	}
	if r.wrong != nil {
		r.until = s.now().Add(faultAge)
	}
	s.cache[schemaKey{fp, topic}] = r
	return r, r.wrong, nil
}

func (s *schemaIDs) outside() error {
	if s.before == nil {
		return nil
	}
	return s.before()
}

// forgetFaults has schemas that could not be used looked at again: they may have been mended.
func (s *schemaIDs) forgetFaults() {
	maps.DeleteFunc(s.cache, func(_ schemaKey, r *resolved) bool { return r.wrong != nil })
}

func (s *schemaIDs) find(ctx context.Context, fp schemas.Fingerprint, topic string) (*resolved, error) {
	schema, err := s.lookup(ctx, fp)
	switch {
	case err != nil && s.missing(err):
		return &resolved{wrong: faultf(ReasonSchema, "no schema with fingerprint %s is in the outbox", fp)}, nil
	case err != nil:
		return nil, fmt.Errorf("look up schema %s: %w", fp, err)
	}
	codec, err := avro.New(schema.Text)
	if err != nil {
		return &resolved{wrong: faultf(ReasonSchema, "schema %s: %v", schema.Name, err)}, nil
	}
	id, wrong, err := s.register(ctx, schema, s.subject(topic, schema.Name))
	if err != nil {
		return nil, err
	}
	return &resolved{id: id, codec: codec, wrong: wrong}, nil
}

func (s *schemaIDs) subject(topic, name string) string {
	switch s.subjects {
	case TopicSubjects:
		return topic + "-value"
	case RecordSubjects:
		return name
	}
	return topic + "-" + name
}

// register asks until the registry answers or grace is over, unless the id is known from before.
//
// Promise 7: a registry that stays away does not stop the stream.
func (s *schemaIDs) register(ctx context.Context, schema *schemas.Schema, subject string) (int, *fault, error) {
	r := idRecord{V: 1, Fingerprint: schema.Fingerprint.String(), Subject: subject}
	known, isKnown := s.known[r.key()]
	for attempt := 0; !s.down; attempt++ {
		id, err := s.registry.Register(ctx, subject, schema.Text)
		switch {
		case err == nil:
			s.answers()
			if r.ID = id; id != known {
				s.fresh = append(s.fresh, r)
			}
			return id, nil, nil
		case refuses(err):
			s.answers()
			return 0, faultf(ReasonRefused, "%v", err), nil
		case ctx.Err() != nil:
			return 0, nil, ctx.Err()
		}
		if s.since.IsZero() {
			s.since = s.now()
		}
		s.away(fmt.Errorf("register %s: %w", subject, err))
		if isKnown {
			return known, nil, nil
		}
		if s.down = s.hurry || s.now().Sub(s.since) >= s.grace; s.down {
			break
		}
		if err := s.retry.wait(ctx, attempt); err != nil {
			return 0, nil, err
		}
	}
	if isKnown {
		return known, nil, nil
	}
	return 0, faultf(ReasonRegistry, "the schema registry does not answer, and the id of %s is not known yet", subject), nil
}

// refuses tells a registry that says no from one that does not answer.
func refuses(err error) bool {
	var refused *registry.ErrIncompatible
	return errors.As(err, &refused) || errors.Is(err, registry.ErrInvalid)
}

// answers ends an outage.
func (s *schemaIDs) answers() {
	s.away(nil)
	if s.down {
		s.forgetFaults()
	}
	s.since, s.down = time.Time{}, false
}
