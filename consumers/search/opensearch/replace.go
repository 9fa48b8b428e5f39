package opensearch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/millrace/millrace/consumers/fold"
)

// Version types of writes. A state that is folded anew replaces one of the same version: the server compares in the step that writes, so a later one stays, whoever
// writes it meanwhile.
const (
	newer        = "external"
	newerOrEqual = "external_gte"
)

// replaceKeys is the number of keys whose doubles are looked for at once.
const replaceKeys = 500

// removeDoubles removes other documents that say they are of the same keys: somebody copied one, or wrote it by another id. Ours are written, and have no routing.
func (s *Sink) removeDoubles(ctx context.Context, changes map[string][]fold.Change) error {
	for entity, all := range changes {
		for some := range slices.Chunk(all, replaceKeys) {
			if err := s.removeDoublesOf(ctx, s.layouts[entity], some); err != nil {
				return fmt.Errorf("remove doubled documents of %s: %w", entity, err)
			}
		}
	}
	return nil
}

func (s *Sink) removeDoublesOf(ctx context.Context, l *layout, changes []fold.Change) error {
	keys, ids := make([]string, len(changes)), make([]string, len(changes))
	for i, c := range changes {
		keys[i], ids[i] = c.Key, id(c.Key)
	}
	if err := s.client.call(ctx, http.MethodPost, path(l.index)+"/_refresh", nil, nil); err != nil {
		return err
	}
	written := object{"bool": object{"filter": object{"ids": object{"values": ids}}, "must_not": object{"exists": object{"field": "_routing"}}}}
	question := object{"query": object{"bool": object{"filter": object{"terms": object{keyField: keys}}, "must_not": written}}}
	var answer struct {
		TimedOut  bool              `json:"timed_out"`
		Conflicts int               `json:"version_conflicts"`
		Failures  []json.RawMessage `json:"failures"`
	}
	if err := s.client.call(ctx, http.MethodPost, path(l.index)+"/_delete_by_query?conflicts=proceed&refresh=true", question, &answer); err != nil {
		return err
	}
	if answer.TimedOut || answer.Conflicts > 0 || len(answer.Failures) > 0 {
		return fmt.Errorf("%w: some are still there", errAnswer)
	}
	return nil
}
