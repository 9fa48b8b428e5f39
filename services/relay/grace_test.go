package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/registry"
)

// Grace is counted from the first time that the registry did not answer, once for an outage and not for each schema; a registry
// that comes back within it parks nothing.
func TestGraceIsCountedOnceAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		schema, err := schemas.Parse(fakeSchema)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		back := 3 * time.Second
		var asked int
		ids := &schemaIDs{
			registry: fakeRegistry(func(string, string) (int, error) {
				if asked++; time.Since(began) < back {
					return 0, registry.ErrUnavailable
				}
				return 7, nil
			}),
			subjects: TopicRecordSubjects, missing: func(error) bool { return false }, away: func(error) {}, now: time.Now,
			lookup: func(context.Context, schemas.Fingerprint) (*schemas.Schema, error) { return schema, nil },
			cache:  map[schemaKey]*resolved{}, known: map[string]int{},
			retry: backoff{min: 100 * time.Millisecond, max: time.Second}, grace: 5 * time.Second,
		}
		if _, wrong, err := ids.resolve(t.Context(), schema.Fingerprint, "a"); wrong != nil || err != nil || time.Since(began) < back {
			t.Fatalf("%v %v after %v", wrong, err, time.Since(began))
		}
		began, back = time.Now(), time.Hour
		if _, wrong, err := ids.resolve(t.Context(), schema.Fingerprint, "b"); wrong == nil || wrong.reason != ReasonRegistry || err != nil {
			t.Fatalf("%+v %v", wrong, err)
		}
		if waited := time.Since(began); waited < ids.grace || waited > ids.grace+2*ids.retry.max {
			t.Errorf("waited %v, grace is %v", waited, ids.grace)
		}
		before, at := asked, time.Now()
		if _, wrong, _ := ids.resolve(t.Context(), schema.Fingerprint, "c"); wrong == nil || time.Since(at) > 0 || asked != before {
			t.Errorf("the second schema of an outage waited %v", time.Since(at))
		}
		if _, wrong, err := ids.resolve(t.Context(), schema.Fingerprint, "a"); wrong != nil || err != nil {
			t.Errorf("a known one: %v %v", wrong, err)
		}
	})
}
